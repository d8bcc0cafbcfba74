"""What a run comes to, in plain words: the verdict, what goes with it, and its limits."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from nasalign.evaluation.metrics import LOW_COVERAGE, Figure, low_coverage
from nasalign.reporting.report.data_sets import DataSet
from nasalign.reporting.report.run_folder import RunFiles

AGAIN = "Resume it with the same command and --resume."
_SPACE = "\N{NO-BREAK SPACE}"
_FEW = 20  # positive answers below which a precision says little
_COIN_TOSS = 0.6  # area under the curve below which a model hardly tells right from wrong


class Verdict(NamedTuple):
    """The verdict in a few words and in a sentence, and notes that a reader must know with it.

    The tone is ``good``, ``mixed``, ``bad`` or ``plain``.
    """

    label: str
    tone: str
    sentence: str
    notes: list[str]


def run_verdict(files: RunFiles, sets: list[DataSet]) -> Verdict:
    """Return what a run comes to, whether it went well or not, or is not finished."""
    if not files.complete:
        return _unfinished(files, sets)
    if files.command == "diagnose" and files.diagnosis:
        return Verdict("Diagnosis", "plain", str(files.diagnosis["sentence"]), [])
    if files.diagnosis:  # of an alignment: there was nothing to fix
        return _nothing_to_fix(files, str(files.diagnosis["sentence"]))
    if not sets[0].changes:
        return _one_side(files, sets[0])
    return _aligned(files, sets)


def _aligned(files: RunFiles, sets: list[DataSet]) -> Verdict:
    """The verdict of a complete alignment, by its first data set."""
    data, name = sets[0], files.name
    yes, no = files.words
    before = data.figures["before"]
    word, share = yes, before["yes_rate"][0]
    if not files.to_no:
        word, share = no, max(0.0, 1 - share - before["invalid_rate"][0])
    lean = f"{name} said {word} to {percent(share)} of {data.n:,} yes/no questions ({data.name})"
    heads = files.head_count
    tried = len(files.heads if files.joint else files.decided)
    if not files.kept:
        why = f"none of the {tried} heads that were tried was kept, so the model is what it was"
        advice = (
            "Try another learning rate (--set learning_rate=..., within a factor of two), or more "
            "heads (--set k=60 --set n=20)."
        )
        return Verdict("Unchanged", "plain", f"{lean}; {why}.", [advice])
    gain = "precision" if files.to_no else "recall"
    sentence = (
        f"{lean}; after retuning {files.kept} of its {heads:,} attention heads "
        f"({tried} tried), {gain} {moved(data, gain)}, accuracy {moved(data, 'accuracy')}, "
        f"and calibration {_calibration(data)}."
    )
    label, tone = _judged(data, files.to_no)
    if tone == "good" and any(direction(other.changes["accuracy"]) < 0 for other in sets[1:]):
        tone = "mixed"
    notes = [
        *_covered(sets),
        *_balance(data, files),
        *_ranking(data, yes),
        *_small_counts(data, yes),
        *_side_effects(files),
        *(_further(other, yes) for other in sets[1:]),
    ]
    return Verdict(label, tone, sentence, notes)


def _judged(data: DataSet, to_no: bool) -> tuple[str, str]:
    """The verdict in a few words, by what the intervals of the change allow to say."""
    gain = direction(data.changes["precision" if to_no else "recall"])
    accuracy = direction(data.changes["accuracy"])
    fewer = "Fewer wrong Yes" if to_no else "Fewer missed Yes"
    if accuracy < 0 and gain > 0:
        return f"{fewer}, lower accuracy", "mixed"
    if accuracy < 0 or (gain < 0 and accuracy == 0):
        return "Worse", "bad"
    if gain > 0 and accuracy > 0:
        return "Better", "good"
    if gain > 0:
        cost = direction(data.changes["ece"]) > 0 or _leans(data) == (-1 if to_no else 1)
        return f"{fewer}, same accuracy", "mixed" if cost else "good"
    if accuracy > 0:
        return "Better accuracy", "good"
    return "No measurable change", "plain"


def _balance(data: DataSet, files: RunFiles) -> Iterator[str]:
    """On which side of the labels the answers now are."""
    yes, no = files.words
    share, _, _ = data.figures["after"]["yes_rate"]
    if data.positives is None:
        return
    says = f"it says {yes} to {percent(share)}, where {yes} is right for {percent(data.positives)}"
    lean = _leans(data)
    if lean == (-1 if files.to_no else 1):
        yield f"It now leans the other way: {says}."
    elif lean:
        yield f"It still leans to {yes if files.to_no else no}: {says}."
    else:
        yield f"It is even now: {says}."
    invalid = data.figures["after"]["invalid_rate"][0]
    if invalid > 0.01:
        yield (
            f"{percent(invalid)} of its answers are neither {yes} nor {no}; they count as wrong "
            "in the accuracy and are left out of precision and recall."
        )


def _leans(data: DataSet) -> int:
    """1 where the aligned model leans to Yes, -1 where it leans to No, else 0."""
    _, low, high = data.figures["after"]["yes_rate"]
    if data.positives is None:
        return 0
    return int(low > data.positives) - int(high < data.positives)


def _calibration(data: DataSet) -> str:
    """What the calibration did; its metric is an error, so that less is better."""
    before, after = (data.figures[side]["ece"][0] for side in ("before", "after"))
    words = {1: "worsened", -1: "improved", 0: "did not change measurably"}
    return f"{words[direction(data.changes['ece'])]} (error {before:.2f} to {after:.2f})"


def _ranking(data: DataSet, yes: str) -> Iterator[str]:
    """Whether the model tells right from wrong answers, which tuning does not teach."""
    before, after = data.ranking.get("before"), data.ranking.get("after")
    if before is None or after is None:
        return
    pairs = (
        "Of a right and a wrong answer it gives the right one the higher odds in "
        f"{percent(before)} of pairs before and {percent(after)} after (50 % is a coin toss)"
    )
    hardly = f": it hardly tells them apart. What changed is how often it says {yes}."
    yield pairs + (hardly if after < _COIN_TOSS else ".")


def _covered(sets: Sequence[DataSet]) -> Iterator[str]:
    """Warn of data on which the model mostly writes neither word."""
    for data in sets:
        found = {side: figures["coverage"][0] for side, figures in data.figures.items()}
        side, least = min(found.items(), key=lambda one: one[1])
        if least < LOW_COVERAGE:
            yield f"{data.name}, {side}: {low_coverage(least).removeprefix('Warning: ')}"


def _small_counts(data: DataSet, yes: str) -> Iterator[str]:
    for side, rows in data.rows.items():
        count = sum(row["verdict"] == "positive" for row in rows)
        if count < _FEW:
            often = f"only {count} times" if count else "not once"
            yield f"It said {yes} {often} {side}, so its precision {side} says little."


def _side_effects(files: RunFiles) -> Iterator[str]:
    """What became of free answers, which nothing should change."""
    answers = (files.side_effects or {}).get("general_qa")
    if answers:
        change = (answers["after"] - answers["before"], *answers["change_interval"])
        words = {1: "became better", -1: "became worse", 0: "did not change measurably"}
        yield (
            f"Free answers {words[direction(change)]}: {answers['before']:.2f} to "
            f"{answers['after']:.2f} are right (n = {answers['n']:,})."
        )


def _further(data: DataSet, yes: str) -> str:
    return (
        f"On {data.name} (n = {data.n:,}): recall {moved(data, 'recall')}, accuracy "
        f"{moved(data, 'accuracy')}, {yes} to {percent(data.figures['after']['yes_rate'][0])}."
    )


def _unfinished(files: RunFiles, sets: list[DataSet]) -> Verdict:
    done, selected = len(files.decided), len(files.heads)
    if files.tuning or done:
        where = f"{done} of {selected} selected heads are done, {files.kept} of them kept"
    elif selected:
        where = f"{selected} heads are selected and none is tuned yet"
    elif sets:
        where = "the untouched model is evaluated, and its heads are not selected yet"
    else:
        where = "nothing is measured yet"
    return unfinished(f"This run of {files.name} is not finished: {where}.")


def unfinished(sentence: str) -> Verdict:
    """Return the verdict of a run that can be resumed."""
    return Verdict("Unfinished", "plain", sentence, [AGAIN])


def _nothing_to_fix(files: RunFiles, diagnosis: str) -> Verdict:
    known = files.facts.get("probing", {}).get("known", files.samples)
    does_not = f"denies none of the {known:,} answers that it knows"
    if files.to_no:
        does_not = f"affirms no wrong answer to the {known:,} questions that it knows"
    sentence = f"Nothing to fix: {files.name} {does_not}, so no head was tuned."
    return Verdict("Nothing to fix", "plain", sentence, [diagnosis])


def _one_side(files: RunFiles, data: DataSet) -> Verdict:
    """The verdict of an evaluation of one model."""
    yes, _ = files.words
    figures = next(iter(data.figures.values()))
    tuned = " with its adapter" if files.facts.get("adapter") else ""
    sentence = (
        f"{files.name}{tuned} says {yes} to {percent(figures['yes_rate'][0])} of {data.n:,} "
        f"questions of {data.name}; its accuracy is {spread(figures['accuracy'])}, its recall "
        f"{spread(figures['recall'])}."
    )
    notes = [*_covered([data]), *_small_counts(data, yes)]
    return Verdict("Evaluation", "plain", sentence, notes)


def moved(data: DataSet, metric: str) -> str:
    """Return what a metric did, as far as the interval of its change allows to say."""
    before, after = (data.figures[side][metric][0] for side in ("before", "after"))
    way = direction(data.changes[metric])
    if before == after:
        return f"stayed at {before:.2f}"
    if way == 0:
        return f"did not change measurably ({before:.2f} to {after:.2f})"
    return f"{'rose' if way > 0 else 'fell'} from {before:.2f} to {after:.2f}"


def direction(change: Figure) -> int:
    """Return 1 or -1 where the interval of a change is above or below 0, else 0."""
    _, low, high = change
    return int(low > 0) - int(high < 0)


def spread(figure: Figure) -> str:
    """Return a value with its interval."""
    value, low, high = figure
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def percent(share: float) -> str:
    """Return a share in percent; 100 % and 0 % are said only where they are true."""
    whole = round(100 * share)
    if whole == 100 and share < 1:
        return f"over 99{_SPACE}%"
    if whole == 0 and share > 0:
        return f"under 1{_SPACE}%"
    return f"{whole}{_SPACE}%"
