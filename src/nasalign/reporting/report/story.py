"""What a run comes to, in plain words: the verdict, what goes with it, and its limits."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from nasalign.evaluation.metrics import LOW_COVERAGE, Figure, low_coverage
from nasalign.reporting.formats import number, percent, value_or_why, with_count, with_interval
from nasalign.reporting.report.data_sets import DataSet, data_sets
from nasalign.reporting.report.nas_notes import nas_notes
from nasalign.reporting.report.origin import public
from nasalign.reporting.report.price import (
    gain_metric,
    mistakes_taken,
    price_metric,
    price_notes,
)
from nasalign.reporting.report.run_folder import RunFiles
from nasalign.run_file import as_written

AGAIN = "Resume it with the same command and --resume."
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
        why = f"of {with_count(tried, 'head')} tried none was kept, so the model is what it was"
        rate, more = "learning_rate", "--set k=60 --set n=20"
        if files.joint:
            rate, more = "joint_learning_rate", "--set joint_heads=60"
        advice = (
            f"Try another learning rate (--set {rate}=..., within a factor of two), or more heads "
            f"({more})."
        )
        return Verdict("Unchanged", "plain", f"{lean}; {why}.", [advice])
    gain = gain_metric(files)
    sentence = (
        f"{lean}; after retuning {files.kept} of its {heads:,} attention heads "
        f"({tried} tried), {gain} {moved(data, gain)}, accuracy {moved(data, 'accuracy')}"
        f"{_price(data, files)}."
    )
    label, tone = _judged(data, files)
    if tone == "good" and any(direction(other.changes["accuracy"]) < 0 for other in sets[1:]):
        tone = "mixed"
    notes = [
        *_covered(sets),
        *price_notes(data, files),
        *_balance(data, files),
        *nas_notes(data, files),
        f"Its calibration error {moved(data, 'ece')}; less is better.",
        *_ranking(data, yes),
        *_small_counts(data, yes),
        *_side_effects(files),
        *(_further(other, files) for other in sets[1:]),
    ]
    return Verdict(label, tone, sentence, notes)


def _price(data: DataSet, files: RunFiles) -> str:
    """The mistakes of the other kind, which the gain is to be weighed against."""
    taken = mistakes_taken(data, files)
    if not taken:
        return ""
    return f", {'but' if direction(data.changes[price_metric(files)]) < 0 else 'and'} it {taken}"


def _judged(data: DataSet, files: RunFiles) -> tuple[str, str]:
    """The verdict in a few words, by what the intervals of the change allow to say.

    It is good only where nothing is paid for it: no more mistakes of the other kind, and no lean
    the other way.
    """
    gain, accuracy = (direction(data.changes[name]) for name in (gain_metric(files), "accuracy"))
    fewer, more = "Fewer missed Yes", "more wrong Yes"
    if files.to_no:
        fewer, more = "Fewer wrong Yes", "more missed Yes"
    paid = direction(data.changes[price_metric(files)]) < 0
    turned = _leans(data) == (-1 if files.to_no else 1)
    price = f", {more}" if paid else ", leans the other way" if turned else ""
    tone = "mixed" if price else "good"
    if accuracy < 0 and gain > 0:
        return f"{fewer}, lower accuracy", "mixed"
    if accuracy < 0 or (gain < 0 and accuracy == 0):
        return "Worse", "bad"
    if gain > 0 and accuracy > 0:
        return (f"More accurate{price}" if price else "Better"), tone
    if gain > 0:
        worse = direction(data.changes["ece"]) > 0
        return f"{fewer}, same accuracy{price}", "mixed" if worse else tone
    if accuracy > 0:
        return f"Better accuracy{price}", tone
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


def _ranking(data: DataSet, yes: str) -> Iterator[str]:
    """Whether the model tells right from wrong answers, which tuning does not teach."""
    before, after = data.ranking.get("before"), data.ranking.get("after")
    if before is None or after is None:
        return
    pairs = (
        "Of a right and a wrong answer it gives the right one the higher odds in "
        f"{percent(before)} of pairs before and {percent(after)} after ({percent(0.5)} is a coin "
        "toss)"
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
    """Say where a precision is of few answers, or of none."""
    for side, rows in data.rows.items():
        count = sum(row["verdict"] == "positive" for row in rows)
        if not count:
            yield f"It never said {yes} {side}, so it has no precision {side}."
        elif count < _FEW:
            often = "once" if count == 1 else f"only {count} times"
            yield f"It said {yes} {often} {side}, so its precision {side} says little."


def _side_effects(files: RunFiles) -> Iterator[str]:
    """What became of free answers, which nothing should change."""
    answers = (files.side_effects or {}).get("general_qa")
    if answers:
        change = (answers["after"] - answers["before"], *answers["change_interval"])
        words = {1: "became better", -1: "became worse", 0: "did not change measurably"}
        yield (
            f"Free answers {words[direction(change)]}: {number(answers['before'])} to "
            f"{number(answers['after'])} are right (n = {answers['n']:,})."
        )


def _further(data: DataSet, files: RunFiles) -> str:
    gain, (yes, _) = gain_metric(files), files.words
    return (
        f"On {data.name} (n = {data.n:,}): {gain} {moved(data, gain)}, accuracy "
        f"{moved(data, 'accuracy')}, {yes} to {percent(data.figures['after']['yes_rate'][0])}"
        f"{_price(data, files)}."
    )


def _unfinished(files: RunFiles, sets: list[DataSet]) -> Verdict:
    done, selected = len(files.decided), len(files.heads)
    if files.tuning or done:
        where = f"{done} of {with_count(selected, 'selected head')} done, {files.kept} of them kept"
    elif selected:
        where = f"{with_count(selected, 'head')} selected and none tuned yet"
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
        f"{spread(figures['recall'])}"
    )
    if "specificity" in figures:  # the metrics of an earlier version have none
        sentence += f", its specificity (wrong answers refused) {spread(figures['specificity'])}"
    notes = [*_covered([data]), *_small_counts(data, yes)]
    return Verdict("Evaluation", "plain", f"{sentence}.", notes)


def moved(data: DataSet, metric: str) -> str:
    """Return what a metric did, as far as the interval of its change allows to say."""
    values = [data.figures[side][metric][0] for side in ("before", "after")]
    before, after = (value_or_why(metric, value) for value in values)
    way = direction(data.changes[metric])
    if values[0] == values[1]:
        return f"stayed at {before}"
    if way == 0:
        return f"did not change measurably ({before} to {after})"
    return f"{'rose' if way > 0 else 'fell'} from {before} to {after}"


def direction(change: Figure) -> int:
    """Return 1 or -1 where the interval of a change is above or below 0, else 0."""
    _, low, high = change
    return int(low > 0) - int(high < 0)


def spread(figure: Figure) -> str:
    """Return a value with its interval."""
    return with_interval(figure[0], figure[1:])


def verdict_of(folder: Path) -> Verdict:
    """Return the verdict of a finished run by its files, with paths cut to their last names.

    Raises:
        NasAlignError: it is no run directory, or a file in it is broken.
    """
    with as_written(folder):
        files = public(RunFiles.read(folder))
        return run_verdict(files, data_sets(files))
