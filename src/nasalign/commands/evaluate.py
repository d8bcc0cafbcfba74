"""``nasalign evaluate``: measure a model, with an adapter if there is one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from nasalign.commands.app import command
from nasalign.commands.harness import check_task, write_task
from nasalign.commands.job import Job
from nasalign.commands.options import (
    AdapterOf,
    AsJson,
    DataOptions,
    LoadOptions,
    Model,
    OutOptions,
    SettingOptions,
    grouped,
)
from nasalign.commands.prepared import prepare
from nasalign.errors import NasAlignError
from nasalign.evaluation.evaluation import Evaluation
from nasalign.reporting.console_tables import knowledge_table, metrics_table, scenarios_table
from nasalign.run import adapter_folder


@grouped
def evaluate(
    model: Model,
    data: DataOptions,
    out: OutOptions,
    settings: SettingOptions,
    load: LoadOptions,
    split: Annotated[
        Literal["auto", "test", "development", "all"] | None,
        typer.Option(help="Which subjects: auto takes all of a data set of the paper, else test."),
    ] = None,
    adapter: AdapterOf = None,
    decoder: Annotated[
        Literal["logits", "generate"] | None,
        typer.Option(help="logits compares probabilities; generate decodes greedily and parses."),
    ] = None,
    knowledge: Annotated[
        bool,
        typer.Option(
            "--knowledge", help="Also by what the model knows: it asks each question freely."
        ),
    ] = False,
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Ask the same examples in this scenario: plain, context, unsure, cot or negated; "
            "may be repeated, and gives one table.",
        ),
    ] = None,
    harness_out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Also write the same examples there as a task of lm_eval."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model, with an adapter if given, on data it was not tuned on."""
    with command(as_json) as (console, emit):
        if harness_out and scenario:
            raise NasAlignError(
                "A task of lm_eval asks in one scenario: take --set scenario=NAME in place of "
                "--scenario."
            )
        job = Job.of(
            console,
            "evaluate",
            model,
            data=data,
            load=load,
            settings=settings,
            out=out,
            shortcuts={"split": split, "decoder": decoder},
            adapter=adapter,
        )
        if scenario:
            result = scenarios_job(job, scenario, adapter, knowledge)
            title = f"{data.data}, {result['n']} examples, decoder {result['decoder']}"
            console.print(scenarios_table(title, result))
            emit(result)
            return
        metrics = evaluate_job(job, adapter, knowledge, harness_out)
        console.print(metrics_table(f"{data.data}, {metrics['n']} examples", metrics))
        if knowledge:
            console.print(knowledge_table(metrics["knowledge"]))
        if harness_out:
            job.run.say(f"The task is in {harness_out}; run it by: {metrics['harness']['command']}")
        emit(metrics)


def evaluate_job(
    job: Job, adapter: Path | None, knowledge: bool = False, harness_out: Path | None = None
) -> dict[str, Any]:
    """Evaluate a model, with an adapter if given; return the metrics.

    Args:
        job: the model, the data, and the run directory if one is to be written.
        adapter: a run directory or an adapter folder.
        knowledge: whether to ask each question by Prompt II too, and to give the metrics for what
            the model answers rightly, wrongly and not at all (Appendix G), under ``knowledge``.
        harness_out: where the same examples are written as a task of lm_eval; what was written is
            under ``harness``.

    Raises:
        NasAlignError: the model, the data or the adapter does not fit, or the evaluation would
            take in what the adapter was tuned on.
    """
    if harness_out:
        check_task(job.given_settings)
    with job.locked():
        asked = prepare(job, adapter, knowledge)
        session, splits, settings = asked.session, asked.splits, asked.session.settings
        task = None
        if harness_out:
            applied = adapter_folder(adapter) if adapter else None
            examples, overwrite = asked.examples[settings.scenario], job.out.overwrite
            shots = asked.shots[settings.scenario]
            task = write_task(session, splits, examples, shots, harness_out, overwrite, applied)
        evaluation = asked.evaluate(settings.scenario, splits.name)
        figures = (settings.bootstrap_samples, settings.seed)
        metrics = evaluation.metrics(*figures)
        if knowledge:
            parts = asked.by_knowledge(evaluation)
            metrics["knowledge"] = {kind: part.metrics(*figures) for kind, part in parts.items()}
        if task:
            metrics["harness"] = task
        job.run.write("metrics.json", {"datasets": {splits.name: {asked.side: metrics}}})
        job.report()
        return metrics


def scenarios_job(
    job: Job, scenarios: Sequence[str], adapter: Path | None, knowledge: bool = False
) -> dict[str, Any]:
    """Evaluate a model on the same examples in each scenario; write ``scenarios.json``.

    Returns:
        ``scenarios``: by name, ``all`` and ``by_knowledge`` (what the untouched model answers
        freely), each with the metrics and ``metrics.LEAN``; ``decoder``, ``judge`` and ``n``.

    Raises:
        NasAlignError: the model, the data, the adapter or a scenario does not fit; nothing has been
            asked then.
    """
    named = [job.given_settings.replace({"scenario": name}).scenario for name in scenarios]
    with job.locked():
        asked = prepare(job, adapter, knowledge, named)
        settings = asked.session.settings
        figures = (settings.bootstrap_samples, settings.seed)
        found = {}
        for scenario in asked.examples:
            evaluation = asked.evaluate(scenario, f"{asked.splits.name}.{scenario}")
            invalid, n = evaluation.scores.verdicts.count("invalid"), len(evaluation.examples)
            if invalid:
                job.run.say(f"{scenario}: {invalid} of {n} answers are none of those allowed.")
            parts = asked.by_knowledge(evaluation) if knowledge else {}
            found[scenario] = {
                "all": _with_lean(evaluation, *figures),
                "by_knowledge": {kind: _with_lean(part, *figures) for kind, part in parts.items()},
            }
        result = {
            "scenarios": found,
            "decoder": settings.decoder,
            "judge": settings.judge,
            "n": len(asked.origins),
        }
        job.run.write("scenarios.json", result)
        job.report()
        return result


def _with_lean(evaluation: Evaluation, bootstrap_samples: int, seed: int) -> dict[str, Any]:
    metrics = evaluation.metrics(bootstrap_samples, seed)
    lean = evaluation.lean(bootstrap_samples, seed)
    return metrics | lean | {"intervals": metrics["intervals"] | lean["intervals"]}
