"""Whether the cells of a column are verdicts or short answers, by all of them and the questions."""

from collections import Counter
from collections.abc import Mapping, Sequence

from nasalign.data.label_values import CORE, LabelValues, is_number
from nasalign.data.question_form import Form, form_of
from nasalign.errors import DataError

MOST = 0.8
"""Share of verdicts from which the other cells of a column are no short answers."""
ALMOST = 0.9
"""Share of questions by whose form it is told what 1 and 0 are."""
_FEW = 5


def decide_labels(values: LabelValues) -> None:
    """Decide what the cells of the column ``label`` mean.

    Raises:
        DataError: most of them have no known meaning.
    """
    known, others = values.known, values.rows(None)
    verdicts = values.rows("yes", "no")
    numbers = [cell for cell in values.seen if is_number(cell)]
    graded = not values.labels and any(cell not in ("0", "1") for cell in numbers)
    # Beside a word for Yes alone, an unknown one is likely to be that for No.
    one_sided = not values.labels and others and len({*known.values()} - {"neither"}) < 2
    if graded or others > verdicts or not verdicts or one_sided:
        why = "it is not clear which labels mean Yes and which No"
        one = values.form()
        swapped = "/".join(reversed(one.split("/", 1)))
        raise values.refusal(
            why, f"say so by --labels {one!r} or {swapped!r}; a third value is one that is neither"
        )
    values.signs = {cell: known.get(cell, "neither") for cell in values.seen}


def decide_answers(values: LabelValues, questions: Sequence[str]) -> None:
    """Decide which cells of the column ``answer`` are verdicts, in rows without a label.

    Args:
        values: the cells; their meanings are set.
        questions: those of the same rows, in the order of ``values``.

    Raises:
        DataError: they may be verdicts or short answers.
    """
    values.mixed = True
    if values.labels == ():
        return
    known = values.known
    if values.labels is None and any(is_number(one) and one not in known for one in values.seen):
        known = {cell: sign for cell, sign in known.items() if not is_number(cell)}
    others = {cell: n for cell, n in values.seen.items() if cell not in known}
    total, forms = sum(values.seen.values()), Counter(map(form_of, questions))
    signs = {cell: sign for cell, sign in known.items() if sign != "neither"}
    signed = sum(values.seen[cell] for cell in signs)
    if not signs:
        _refuse_two(values, forms)
        return
    most = signed + values.rows("neither") >= MOST * total
    if values.labels is None:
        numeric, both = all(map(is_number, signs)), len(set(signs.values())) == 2
        core = bool(CORE.keys() & signs.keys())
        if forms["open"] <= total / 2:
            _refuse_few(values, others, most, both or not core or bool(forms["open"]))
        doubtful = numeric or not (both or core)
        if doubtful and (not most or not _asked_for(values, forms, total)):
            return
        no_open = not forms["open"] and both and signed >= sum(others.values())
        if forms["open"] > total / 2 or not (most or no_open):
            values.signs = {cell: one for cell, one in known.items() if cell in CORE}
            return
    values.mixed = False
    values.signs = {cell: known.get(cell, "neither") for cell in values.seen}


def _asked_for(values: LabelValues, forms: Mapping[Form, int], total: int) -> bool:
    """Whether 1 and 0, or one label alone, are verdicts by the form of the questions.

    Raises:
        DataError: the questions do not tell.
    """
    if forms["closed"] >= ALMOST * total:
        return True
    if forms["open"] >= ALMOST * total:
        return False
    raise _unclear(values)


def _refuse_two(values: LabelValues, forms: Mapping[Form, int]) -> None:
    """Refuse two texts that stand for all answers: they are labels, and not recognised."""
    texts = [cell for cell in values.seen if not is_number(cell)]
    often = min(values.seen.values(), default=0) >= 2
    if len(texts) == len(values.seen) == 2 and often and not forms["open"]:
        raise _unclear(values)


def _refuse_few(values: LabelValues, others: Mapping[str, int], most: bool, told: bool) -> None:
    """Refuse a column with verdicts in which a few other texts stand often.

    One other text is enough unless it is ``told`` by a verdict of each kind, or by questions that
    ask for more than a verdict.
    """
    often = len(others) <= _FEW and sum(others.values()) >= 3 * len(others)
    if others and not most and (often or (len(others) == 1 and not told)):
        raise _unclear(values)


def _unclear(values: LabelValues) -> DataError:
    one = values.form()
    return values.refusal(
        "it is not clear whether its answers are verdicts or short answers",
        f"say what means Yes and what means No, as in --labels {one!r}, or give --labels none "
        "where all are short answers",
    )
