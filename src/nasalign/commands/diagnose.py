"""Saying which way a model leans."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nasalign.commands.job import Job, alone_in_its_folder
from nasalign.config import Settings
from nasalign.data.records import Record
from nasalign.evaluation.evaluation import Evaluation
from nasalign.evaluation.examples import Bench, settled, without_evidence
from nasalign.nas.heads import Head
from nasalign.nasa.direction import Mistakes
from nasalign.nasa.probing import known_of
from nasalign.nasa.stages import choose_heads, probing_set, what_it_knows
from nasalign.reporting.report import write_report


@alone_in_its_folder
def diagnose_job(job: Job) -> dict[str, Any]:
    """Says which way a model leans, and which heads have the highest NAS.

    The lean is measured on right and wrong answers to what the model knows of the probed data, or,
    where other data are given, on these; in the scenario of the settings. The heads are those of
    Prompt I, by mirrored NAS where the model leans to Yes.

    Returns:
        ``sentence``, ``lean``, ``metrics`` and ``heads``.
    """
    splits, run = job.splits(), job.run
    run.reporter.say(splits.sentence)
    model, tokenizer, settings = job.open()
    settings = settled(settings, job.changes, [settings.scenario], run)
    probed = without_evidence(splits.probing)
    parametric = what_it_knows(model, tokenizer, probed, settings, run)
    known = known_of(parametric)
    bench = Bench(model, tokenizer, settings, run)
    if splits.same:
        asked: Sequence[Record] = [item.question for item in known]
        balanced = replace(settings, sides="both")  # the lean is told from an even share
        name, pool = "known", splits.probing_pool
        bench = replace(bench, settings=balanced)
    else:
        asked, name, pool = splits.test, splits.name, splits.pool
    _, binary = bench.examples(name, asked, pool)
    examples = bench.in_scenario(name, asked, binary)
    evaluation = bench.evaluate({name: examples}, (), "before")[name]
    way = "positive" if _mistakes(evaluation).lean == "positive" else "negative"
    directed = settings.replace({"direction": way})
    heads = choose_heads(probing_set(model, tokenizer, parametric, directed, run), settings, run)
    found = diagnosis(evaluation, heads, settings)
    job.write("diagnosis.json", found)
    run.save()
    if run.folder:
        write_report(run.folder)
    return found


def diagnosis(evaluation: Evaluation, heads: Sequence[Head], settings: Settings) -> dict[str, Any]:
    """Returns the content of ``diagnosis.json``: which way a model leans, and its heads.

    Args:
        evaluation: of the untouched model.
        heads: those of highest NAS, or none.
        settings: of the intervals, and the scenario it was asked in.
    """
    mistakes = _mistakes(evaluation)
    metrics = evaluation.metrics(settings.bootstrap_samples, settings.seed)
    share = mistakes.right / len(evaluation.examples)
    lean = {"direction": mistakes.lean, "yes_rate": metrics["yes_rate"], "share_of_yes": share}
    return {
        "sentence": _sentence(mistakes, metrics["yes_rate"], share, settings),
        "lean": lean | mistakes.as_dict(),
        "metrics": metrics,
        "heads": [head._asdict() for head in heads],
    }


def _mistakes(evaluation: Evaluation) -> Mistakes:
    labels = [example.known_label for example in evaluation.examples]
    return Mistakes.of(evaluation.scores.verdicts, labels)


def _sentence(mistakes: Mistakes, yes_rate: float, share: float, settings: Settings) -> str:
    """Which way the model leans, by how much, and what says so."""
    denied, affirmed = (
        f"{part:.1%} (95 % interval {low:.1%} to {high:.1%})"
        for part, (low, high) in zip(mistakes.shares, mistakes.intervals, strict=True)
    )
    why = (
        f"it affirms {yes_rate:.1%} of {mistakes.right + mistakes.wrong} questions, where "
        f"{share:.1%} would be right; it denies {denied} of what is right and affirms {affirmed} "
        "of what is wrong"
    )
    if settings.scenario != "plain":
        why += f", in the scenario {settings.scenario}"
    if mistakes.lean == "neither":
        return f"No lean is measured: {why}."
    way = "No" if mistakes.lean == "negative" else "Yes"
    points = 50 * abs(mistakes.shares[0] - mistakes.shares[1])  # of an even number of both
    return f"The model leans to {way} by {points:.1f} percentage points: {why}."
