"""Saying which way a model leans."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nasalign.config import Scenario
from nasalign.data.qa import Record
from nasalign.jobs.examples import Bench, settled, without_evidence
from nasalign.jobs.job import Job
from nasalign.nas.heads import Head
from nasalign.reporting.report import write_report
from nasalign.stages import choose_heads, probe


def diagnose_job(job: Job) -> dict[str, Any]:
    """Says which way a model leans, and which heads have the highest NAS.

    The lean is measured on right and wrong answers to what the model knows of the probed data, or,
    where other data are given, on these; in the scenario of the settings. The heads are those of
    Prompt I.

    Returns:
        ``sentence``, ``metrics`` and ``heads``.
    """
    splits, run = job.splits(), job.run
    run.reporter.say(splits.sentence)
    model, tokenizer, settings = job.open()
    settings = settled(settings, job.changes, [settings.scenario], run)
    probing = probe(model, tokenizer, without_evidence(splits.probing), settings, run)
    heads = choose_heads(probing, settings, run)
    bench = Bench(model, tokenizer, settings, run)
    if splits.name == splits.probing_name:
        asked: Sequence[Record] = [item.question for item in probing.samples]
        balanced = replace(settings, sides="both")  # the lean is told from an even share
        name, pool = "known", splits.probing_pool
        bench = replace(bench, settings=balanced)
    else:
        asked, name, pool = splits.test, splits.name, splits.pool
    _, binary = bench.examples(name, asked, pool)
    examples = bench.in_scenario(name, asked, binary)
    evaluation = bench.evaluate({name: examples}, (), "before")[name]
    metrics = evaluation.metrics(settings.bootstrap_samples, settings.seed)
    found = diagnosis(metrics, heads, settings.scenario)
    job.write("diagnosis.json", found)
    run.save()
    if run.folder:
        write_report(run.folder)
    return found


def diagnosis(
    metrics: Mapping[str, Any], heads: Sequence[Head], scenario: Scenario = "plain"
) -> dict[str, Any]:
    """Returns the content of ``diagnosis.json``: which way a model leans on balanced questions."""
    low, high = metrics["intervals"]["yes_rate"]
    share = (
        f"it affirms {metrics['yes_rate']:.1%} of {metrics['n']} balanced questions "
        f"(95 % interval {low:.1%} to {high:.1%}; 50 % would be even)"
    )
    if scenario != "plain":
        share += f", in the scenario {scenario}"
    if high < 0.5:
        points = 100 * (0.5 - metrics["yes_rate"])
        sentence = f"The model leans to No by {points:.1f} percentage points: {share}."
    elif low > 0.5:
        sentence = (
            f"The model leans to Yes by {100 * metrics['yes_rate'] - 50:.1f} percentage points: "
            f"{share}; there is nothing to fix here, since nasalign corrects a lean to No."
        )
    else:
        sentence = f"No lean is measured, so there is nothing to fix: {share}."
    return {"sentence": sentence, "metrics": metrics, "heads": [head._asdict() for head in heads]}
