"""The paper's main tables, each computed from the shared measurements of some models."""

from collections.abc import Sequence
from statistics import mean, stdev

from nasalign.data.wrong_answers import RULES_WRONG_RATE
from nasalign.evaluation.metrics import BINS
from nasalign.nasa.direction import wilson
from nasalign.reproduction.forms import NASA, QUERY_ONLY, RANDOM, UNTOUCHED
from nasalign.reproduction.paper_sets import DOMAINS, PAPER_SETS, PROBING, SHORT_ANSWERS
from nasalign.reproduction.result import Result, Row, beside_paper
from nasalign.reproduction.study import Studies, Study

RANDOM_HEADS = "random attention heads"
METHODS = {UNTOUCHED: "baseline", NASA: "NASA", QUERY_ONLY: "query projection only"}
"""What the paper's tables call the sides."""
BOTH = (UNTOUCHED, NASA)
_MAIN = ("accuracy", "precision", "recall", "f1", "nas")
_OURS = ("ece_two_words",)
"""Figures that the paper does not print."""
_ALL = (*_MAIN, "ece", *_OURS)
_CALIBRATION = (
    "ece: confidence is the probability of the word answered in the whole vocabulary; ece two "
    f"words: its share of the probability of both words. {BINS} bins of equal width, as in the "
    "code of He et al. (2022), whom the paper cites; there the classes share all probability, as "
    "here the two words do. The paper does not say which it took."
)
BOOTSTRAP = "by a bootstrap over questions"
WILSON = "by Wilson's score"
"""How intervals of 95 % are made."""


def table_3(studies: Studies) -> Result:
    """Main results on multi-hop questions."""
    sets = PAPER_SETS[:2]
    notes = [*notes_on(studies, sets, BOOTSTRAP), *_tuned(studies, (NASA,))]
    return beside_paper(3, _metrics(studies, sets, BOTH, _MAIN), notes)


def table_4(studies: Studies) -> Result:
    """Main results on mathematical and logical reasoning."""
    sets = PAPER_SETS[2:]
    notes = [*notes_on(studies, sets, BOOTSTRAP), *_tuned(studies, (NASA,))]
    return beside_paper(4, _metrics(studies, sets, BOTH, _MAIN), notes)


def table_5(studies: Studies) -> Result:
    """General question answering by Prompt II."""
    rows = []
    for study in studies:
        for name in SHORT_ANSWERS:
            for side in BOTH:
                answers = study.knowledge(name, side)
                right = [row["right"] is True for row in answers]
                low, high = wilson(sum(right), len(right))
                row: Row = {"dataset": name, "model": study.name, "method": METHODS[side]}
                row |= {"accuracy": sum(right) / len(right), "n": len(right)}
                row["cut"] = cut_share(answers)
                rows.append(row | {"accuracy_low": low, "accuracy_high": high})
    judges = {study.settings.judge for study in studies}
    judged = f"Right: the answer stands in it, and {', '.join(sorted(judges))} judges it right."
    notes = [*notes_on(studies, SHORT_ANSWERS, WILSON), judged, about_cut(studies)]
    return beside_paper(5, rows, notes)


def cut_share(answers: Sequence[Row]) -> float:
    """Return the share of free answers that the limit of tokens ended."""
    return sum(row["cut"] for row in answers) / len(answers)


def about_cut(studies: Studies) -> str:
    """Return the note on free answers that are cut."""
    limit = studies[0].settings.free_answer_tokens
    return f"Cut: answers that had not ended after {limit} tokens; they are judged as they are."


def table_6(studies: Studies) -> Result:
    """Expected calibration error."""
    rows = _metrics(studies, PAPER_SETS, BOTH, ("ece", *_OURS))
    return beside_paper(
        6, rows, [*notes_on(studies, PAPER_SETS, BOOTSTRAP), _CALIBRATION], more=_OURS
    )


def table_7(studies: Studies) -> Result:
    """Four examples shown before the question."""
    rows = _metrics(studies, DOMAINS, BOTH, ("precision", "recall", "f1"), "4-shot")
    shown = (
        "The examples are four questions of the data set itself, two with the answer Yes; they are "
        "evaluated in no table."
    )
    return beside_paper(7, rows, [*notes_on(studies, DOMAINS, BOOTSTRAP), shown])


def table_8(studies: Studies) -> Result:
    """Counts of what is evaluated."""
    rows = []
    study = studies[0]
    for name in PAPER_SETS:
        asked = study.asked_of(name)
        yes = sum(example.known_label for example in asked.examples)
        total = len(asked.examples)
        counts = {"positives": yes, "negatives": total - yes, "total": total, "n": total}
        rows.append({"dataset": name} | counts | {"dropped": sum(asked.dropped.values())})
    return beside_paper(8, rows, notes_on(studies, PAPER_SETS))


def table_10(studies: Studies) -> Result:
    """True/False and Correct/Wrong in place of Yes/No."""
    rows = []
    for wording, words in (("true-false", "true/false"), ("correct-wrong", "correct/wrong")):
        sets = ("strategyqa", "math-rephrased", "ar-lsat")
        found = _metrics(studies, sets, BOTH, ("accuracy", "f1"), wording)
        rows += [{"vocabulary": words} | row for row in found]
    return beside_paper(10, rows, notes_on(studies, sets, BOOTSTRAP))


def table_11(studies: Studies) -> Result:
    """Instructions A and B."""
    rows = []
    for wording in ("A", "B"):
        found = _metrics(studies, SHORT_ANSWERS, BOTH, ("accuracy", "f1"), wording)
        rows += [{"instruction": wording} | row for row in found]
    return beside_paper(11, rows, notes_on(studies, SHORT_ANSWERS, BOOTSTRAP))


def table_19(studies: Studies) -> Result:
    """Query rows alone."""
    rows = _metrics(studies, PAPER_SETS, (NASA, QUERY_ONLY), _ALL)
    tuned = _tuned(studies, (NASA, QUERY_ONLY))
    notes = [*notes_on(studies, PAPER_SETS, BOOTSTRAP), _CALIBRATION, *tuned]
    return beside_paper(19, rows, notes, more=_OURS)


def table_20(studies: Studies) -> Result:
    """As many heads drawn at random; the mean of several draws and their standard deviation."""
    rows = _metrics(studies, PAPER_SETS, (NASA,), _ALL)
    for study in studies:
        for name in PAPER_SETS:
            draws = [study.metrics(name, side) for side in RANDOM]
            row: Row = {"dataset": name, "model": study.name, "method": RANDOM_HEADS}
            row["n"] = draws[0]["n"]
            for value in _ALL:
                figures = [draw[value] for draw in draws]
                if None in figures:  # a draw has no precision where it never says Yes
                    row |= {value: None, f"{value}_sd": None}
                else:
                    row |= {value: mean(figures), f"{value}_sd": stdev(figures)}
            rows.append(row)
    notes = [f"Random heads: mean and standard deviation of {len(RANDOM)} draws.", _CALIBRATION]
    tuned = _tuned(studies, (NASA, *RANDOM))
    notes = [*notes_on(studies, PAPER_SETS, BOOTSTRAP), *notes, *tuned]
    return beside_paper(20, rows, notes, more=_OURS)


def _metrics(
    studies: Studies,
    sets: Sequence[str],
    sides: Sequence[str],
    values: Sequence[str],
    wording: str = "plain",
) -> list[Row]:
    """Metrics with their intervals, a row a data set, model and side."""
    rows = []
    for name in sets:
        for study in studies:
            for side in sides:
                found = study.metrics(name, side, wording)
                row: Row = {"dataset": name, "model": study.name, "method": METHODS[side]}
                row |= {value: found[value] for value in values}
                for value in values:
                    row[f"{value}_low"], row[f"{value}_high"] = found["intervals"][value]
                rows.append(row | {"n": found["n"], "invalid_rate": found["invalid_rate"]})
    return rows


def notes_on(studies: Studies, sets: Sequence[str], intervals: str = "") -> list[str]:
    """What stands in for what, what each set asks, how it is read, how ``intervals`` are made."""
    settings = studies[0].settings
    notes = studies[0].notes_on_data([*sets, PROBING])
    tasks = (f"{name}: {studies[0].asked_of(name).tasks}" for name in sets)
    how = (
        f"Decoder {settings.decoder}; wrong answers by {settings.generator}; context: "
        f"{settings.context}; at most {settings.evaluation_questions} questions a set, seed "
        f"{settings.seed}{'; intervals are 95 %, ' * bool(intervals)}{intervals}."
    )
    asked = f"What is asked: {'; '.join(tasks)}."
    by_rules = _errors_of_rules(studies[0], sets) if settings.generator == "rules" else ""
    return [*notes, asked, *filter(None, [by_rules]), how]


def _errors_of_rules(study: Study, sets: Sequence[str]) -> str:
    """How often the wrong answers of rules are of another type than is asked for, or right."""
    data = (study.store.sets[name].data for name in sets)
    judged = {name: RULES_WRONG_RATE[name] for name in data if name in RULES_WRONG_RATE}
    if not judged:
        return ""
    rates = ", ".join(f"{wrong} of {total} of {name}" for name, (wrong, total) in judged.items())
    return f"Wrong answers by rules, read by hand: {rates} are of another type, or right."


def _tuned(studies: Studies, sides: Sequence[str]) -> list[str]:
    """How many heads each side has tuned and kept."""
    notes = []
    for study in studies:
        for side in sides:
            found = study.forms.tuning(side)
            why = f" ({found['why']})" if found["why"] else ""
            share = f"{len(found['kept'])} of {len(found['heads'])}"
            notes.append(f"{study.name}, {side}: {share} heads kept{why}.")
    return notes
