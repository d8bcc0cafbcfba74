"""Evaluating a model in several scenarios, by what it knows of the questions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nasalign.commands.evaluate import prepare
from nasalign.commands.job import Job, alone_in_its_folder
from nasalign.evaluation.evaluation import Evaluation
from nasalign.reporting.report import write_report


@alone_in_its_folder
def scenarios_job(
    job: Job, scenarios: Sequence[str], adapter: Path | None, knowledge: bool = False
) -> dict[str, Any]:
    """Evaluates a model on the same examples in each scenario; writes ``scenarios.json``.

    Args:
        job: the model, the data, and the run directory if one is to be written.
        scenarios: how the examples are asked, one after the other.
        adapter: a run directory or an adapter folder, or None.
        knowledge: whether to give the figures by what the untouched model answers freely, which
            it is asked once.

    Returns:
        ``scenarios``: by name, ``all`` and ``by_knowledge``, each with the metrics and the figures
        of ``evaluation.lean``; ``decoder``, ``judge`` and ``n``.

    Raises:
        NasAlignError: the model, the data, the adapter or a scenario does not fit; nothing has been
            asked then.
    """
    named = [job.given_settings.replace({"scenario": name}).scenario for name in scenarios]
    sitting = prepare(job, adapter, knowledge, named)
    settings = sitting.bench.settings
    figures = (settings.bootstrap_samples, settings.seed)
    found = {}
    for scenario in sitting.examples:
        evaluation = sitting.evaluate(scenario, f"{sitting.splits.name}.{scenario}")
        invalid = evaluation.scores.verdicts.count("invalid")
        if invalid:
            n = len(evaluation.examples)
            job.run.reporter.say(f"{scenario}: {invalid} of {n} answers are none of those allowed.")
        parts = sitting.by_knowledge(evaluation) if knowledge else {}
        found[scenario] = {
            "all": _figures(evaluation, *figures),
            "by_knowledge": {kind: _figures(part, *figures) for kind, part in parts.items()},
        }
    result = {
        "scenarios": found,
        "decoder": settings.decoder,
        "judge": settings.judge,
        "n": len(sitting.origins),
    }
    job.write("scenarios.json", result)
    job.run.save()
    if job.run.folder:
        write_report(job.run.folder)
    return result


def _figures(evaluation: Evaluation, bootstrap_samples: int, seed: int) -> dict[str, Any]:
    metrics = evaluation.metrics(bootstrap_samples, seed)
    lean = evaluation.lean(bootstrap_samples, seed)
    return metrics | lean | {"intervals": metrics["intervals"] | lean["intervals"]}
