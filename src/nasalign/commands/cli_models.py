"""Commands that measure or correct a model."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from nasalign.commands.app import command
from nasalign.commands.options import (
    AdapterOf,
    AsJson,
    DataOptions,
    Further,
    HarnessOut,
    LoadOptions,
    Model,
    OutOptions,
    Resume,
    SettingOptions,
    grouped,
    make_job,
)


@grouped
def align(
    model: Model,
    data: DataOptions,
    out: OutOptions,
    settings: SettingOptions,
    load: LoadOptions,
    further: Further = None,
    method: Annotated[
        Literal["nasa", "nasa+"] | None,
        typer.Option(
            help="nasa: head by head, as in the paper; nasa+: ours, all heads together on right "
            "and wrong answers. By the settings unless given."
        ),
    ] = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Find the heads that say No, retune them, and show before and after.

    The run directory is runs/MODEL unless --out names another.
    """
    with command(as_json) as (console, emit):
        from nasalign.commands.align import align_job
        from nasalign.reporting.console_tables import change_table

        folder, more = out.out or _run_folder(model), further or []
        job = make_job(
            console,
            model,
            load=load,
            data=data,
            further=more,
            settings=settings,
            shortcuts={"method": method},
            out=replace(out, out=folder),
            resume=resume,
        )
        result = align_job(job, more)
        for name, sides in result["datasets"].items():
            title = f"{name}, {sides['before']['n']} test examples"
            change = result["changes"][name]
            console.print(change_table(title, sides["before"], sides["after"], change))
        console.print(f"The report is {folder / 'report.html'}; it opens in any browser.")
        adapter = folder / "adapter"
        if adapter.is_dir():
            console.print(f"The adapter is in {adapter}; all else of the run is beside it.")
            console.print(f"Try it: nasalign ask {model} QUESTION --adapter {folder}")
        else:
            console.print(f"No head was kept, so there is no adapter; {folder} says why.")
        emit(result | {"run": str(folder)})


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
        from nasalign.commands.diagnose import diagnose_job
        from nasalign.reporting.console_tables import columns_table, lean_table, metrics_table

        job = make_job(console, model, load=load, data=data, settings=settings, out=out)
        diagnosis = diagnose_job(job)
        title = "Right and wrong answers to questions whose answer the model knows"
        if data.probing_data not in (None, data.data):
            title = f"{data.data}, {diagnosis['metrics']['n']} examples"
        console.print(metrics_table(title, diagnosis["metrics"]))
        console.print(lean_table(diagnosis["lean"]))
        rows = [
            (f"layer {head['layer']}, head {head['head']}", f"{head['nas']:.2f}")
            for head in diagnosis["heads"]
        ]
        console.print(columns_table("Heads of highest NAS", rows, ("head", "single head NAS")))
        console.print(diagnosis["sentence"], highlight=False)
        emit(diagnosis)


@grouped
def evaluate(
    model: Model,
    data: DataOptions,
    out: OutOptions,
    settings: SettingOptions,
    load: LoadOptions,
    harness_out: HarnessOut = None,
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
    as_json: AsJson = False,
) -> None:
    """Measure a model, with an adapter if given, on data it was not tuned on."""
    with command(as_json) as (console, emit):
        from nasalign.commands.evaluate import evaluate_job
        from nasalign.commands.scenario_comparison import scenarios_job
        from nasalign.errors import NasAlignError
        from nasalign.reporting import console_tables as tables

        if harness_out and scenario:
            raise NasAlignError(
                "A task of lm_eval asks in one scenario: take --set scenario=NAME in place of "
                "--scenario."
            )
        job = make_job(
            console,
            model,
            load=load,
            data=data,
            settings=settings,
            shortcuts={"split": split, "decoder": decoder},
            out=out,
        )
        if scenario:
            result = scenarios_job(job, scenario, adapter, knowledge)
            title = f"{data.data}, {result['n']} examples, decoder {result['decoder']}"
            console.print(tables.scenarios_table(title, result))
            emit(result)
            return
        metrics = evaluate_job(job, adapter, knowledge, harness_out)
        console.print(tables.metrics_table(f"{data.data}, {metrics['n']} examples", metrics))
        if knowledge:
            console.print(tables.knowledge_table(metrics["knowledge"]))
        if harness_out:
            command_line = metrics["harness"]["command"]
            job.run.reporter.say(f"The task is in {harness_out}; run it by: {command_line}")
        emit(metrics)


@grouped
def compare(
    model: Model,
    data: DataOptions,
    out: OutOptions,
    settings: SettingOptions,
    load: LoadOptions,
    further: Further = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,...",
            help="These rows alone, such as threshold,nasa; untouched always is one.",
        ),
    ] = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Set other ways to correct a model beside ours: same data, same splits, same decoder.

    The run directory is runs/MODEL-compare unless --out names another. A row that cannot be had
    does not stop the others; the command then exits with 2.
    """
    with command(as_json) as (console, emit):
        from nasalign.commands.compare import compare_job
        from nasalign.reporting.comparison_table import print_comparison

        folder, more = out.out or _run_folder(model, "-compare"), further or []
        job = make_job(
            console,
            model,
            load=load,
            data=data,
            further=more,
            settings=settings,
            out=replace(out, out=folder),
            resume=resume,
        )
        names = [name.strip() for text in only or [] for name in text.split(",") if name.strip()]
        result = compare_job(job, more, names)
        print_comparison(console, result)
        job.run.reporter.say(
            f"The table is {folder / 'comparison.csv'}; the report is {folder / 'report.html'}."
        )
        emit(result | {"run": str(folder)})
        if any(row["error"] and not row["nothing_to_fix"] for row in result["rows"]):
            raise typer.Exit(2)


def _run_folder(model: str, end: str = "") -> Path:
    """The run directory unless --out names one; a model such as ``..`` is no way out of runs."""
    return Path("runs") / f"{Path(model).name.strip('.') or 'model'}{end}"
