"""``nasalign diagnose``: which way a model leans."""

from collections.abc import Sequence
from typing import Any

from nasalign.commands.app import command
from nasalign.commands.job import Job
from nasalign.commands.options import (
    AsJson,
    DataOptions,
    LoadOptions,
    Model,
    OutOptions,
    SettingOptions,
    grouped,
)
from nasalign.config import Settings
from nasalign.data.records import Record
from nasalign.evaluation.evaluation import Evaluation
from nasalign.evaluation.examples import (
    as_scenario,
    evaluate_sets,
    make_examples,
    with_decoder_for,
    without_evidence,
)
from nasalign.nas.heads import Head
from nasalign.nasa.direction import Mistakes
from nasalign.nasa.head_tuning import choose_heads
from nasalign.nasa.knowledge import known_of, what_it_knows
from nasalign.nasa.probing import probing_set
from nasalign.reporting.console_tables import columns_table, lean_table, metrics_table
from nasalign.reporting.formats import SPACE, number, percent, rounded


@grouped
def diagnose(
    model: Model,
    data: DataOptions,
    out: OutOptions,
    settings: SettingOptions,
    load: LoadOptions,
    as_json: AsJson = False,
) -> None:
    """Say which way a model leans, by how much, and which heads have the highest NAS."""
    with command(as_json) as (console, emit):
        groups = {"data": data, "load": load, "settings": settings, "out": out}
        # The limit bounds what is probed too, unless that has a setting of its own.
        own = any(one.startswith("probing_questions=") for one in settings.set_ or [])
        limits = {} if own else {"probing_questions": data.limit}
        found = diagnose_job(Job.of(console, "diagnose", model, shortcuts=limits, **groups))
        title = "Right and wrong answers to questions whose answer the model knows"
        if data.probing_data not in (None, data.data):
            title = f"{data.data}, {found['metrics']['n']} examples"
        console.print(metrics_table(title, found["metrics"]))
        console.print(lean_table(found["lean"]))
        rows = [
            (f"layer {head['layer']}, head {head['head']}", number(head["nas"]))
            for head in found["heads"]
        ]
        console.print(columns_table("Heads of highest NAS", rows, ("head", "single head NAS")))
        console.print(found["sentence"], highlight=False)
        emit(found)


def diagnose_job(job: Job) -> dict[str, Any]:
    """Measure which way a model leans, and which heads have the highest NAS.

    The lean is measured on right and wrong answers to what the model knows of the probed data, or,
    where other data are given, on these; in the scenario of the settings. The heads are those of
    Prompt I, by mirrored NAS where the model leans to Yes.

    Returns:
        ``sentence``, ``lean``, ``metrics`` and ``heads``.
    """
    with job.locked():
        splits, run = job.splits(), job.run
        run.say(splits.sentence)
        session = job.session()
        session = with_decoder_for(session, job.changes, [session.settings.scenario])
        parametric = what_it_knows(session, without_evidence(splits.probing))
        known = known_of(parametric)
        asking = session
        if splits.same:
            asked: Sequence[Record] = [item.example or item.question for item in known]
            asking = session.with_settings(sides="both")  # the lean is told from an even share
            name, pool = "known", splits.probing_pool
        else:
            asked, name, pool = splits.test, splits.name, splits.pool
        _, binary = make_examples(asking, name, asked, pool)
        examples = as_scenario(asking, name, asked, binary)
        evaluation = evaluate_sets(asking, {name: examples}, (), "before")[name]
        way = "positive" if _mistakes(evaluation).lean == "positive" else "negative"
        probing = probing_set(session.with_settings(direction=way), parametric)
        found = diagnosis(evaluation, choose_heads(session, probing), session.settings)
        run.write("diagnosis.json", found)
        job.report()
        return found


def diagnosis(evaluation: Evaluation, heads: Sequence[Head], settings: Settings) -> dict[str, Any]:
    """Return the content of ``diagnosis.json`` for an evaluation of the untouched model."""
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
        f"{percent(part, 1)} (95{SPACE}% interval {percent(low, 1)} to {percent(high, 1)})"
        for part, (low, high) in zip(mistakes.shares, mistakes.intervals, strict=True)
    )
    why = (
        f"it affirms {percent(yes_rate, 1)} of {mistakes.right + mistakes.wrong} questions, where "
        f"{percent(share, 1)} would be right; it denies {denied} of what is right and affirms "
        f"{affirmed} of what is wrong"
    )
    if settings.scenario != "plain":
        why += f", in the scenario {settings.scenario}"
    if mistakes.lean == "neither":
        return f"No lean is measured: {why}."
    way = "No" if mistakes.lean == "negative" else "Yes"
    points = 50 * abs(mistakes.shares[0] - mistakes.shares[1])  # of an even number of both
    return f"The model leans to {way} by {rounded(points, 1)} percentage points: {why}."
