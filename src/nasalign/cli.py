"""The command line: thin, one function a command; torch is loaded only when a command runs."""

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import typer

from nasalign.options import (
    DATA_HELP,
    AdapterOf,
    AsJson,
    DataOptions,
    Generator,
    Judge,
    Limit,
    LoadOptions,
    MaxCalls,
    Model,
    OutOptions,
    SettingOptions,
    Source,
    command,
    grouped,
    make_job,
)

app = typer.Typer(
    help="Find and retune the attention heads that make a language model say No too often.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nasalign {version('nasalign')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


@app.command()
@grouped
def align(
    model: Model,
    data: DataOptions,
    out: OutOptions,
    settings: SettingOptions,
    load: LoadOptions,
    further: Annotated[
        list[str] | None,
        typer.Option(
            "--eval", metavar="NAME|FILE", help="Further data to evaluate on; may be repeated."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was interrupted.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find the heads that say No, retune them, and show before and after.

    The run directory is runs/MODEL unless --out names another.
    """
    with command(as_json) as (console, emit):
        from nasalign.jobs.align import align_job
        from nasalign.reporting.console import change_table

        folder, more = out.out or Path("runs") / Path(model).name, further or []
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


@app.command()
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
        from nasalign.jobs.diagnose import diagnose_job
        from nasalign.reporting.console import columns_table, metrics_table

        job = make_job(console, model, load=load, data=data, settings=settings, out=out)
        diagnosis = diagnose_job(job)
        title = "Right and wrong answers to questions whose answer the model knows"
        if data.probing_data not in (None, data.data):
            title = f"{data.data}, {diagnosis['metrics']['n']} examples"
        console.print(metrics_table(title, diagnosis["metrics"]))
        rows = [
            (f"layer {head['layer']}, head {head['head']}", f"{head['nas']:.2f}")
            for head in diagnosis["heads"]
        ]
        console.print(columns_table("Heads of highest NAS", rows, ("head", "single head NAS")))
        console.print(diagnosis["sentence"], highlight=False)
        emit(diagnosis)


@app.command()
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
    as_json: AsJson = False,
) -> None:
    """Measure a model, with an adapter if given, on data it was not tuned on."""
    with command(as_json) as (console, emit):
        from nasalign.jobs.evaluate import evaluate_job
        from nasalign.jobs.scenarios import scenarios_job
        from nasalign.reporting.console import knowledge_table, metrics_table, scenarios_table

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
            console.print(scenarios_table(title, result))
            emit(result)
            return
        metrics = evaluate_job(job, adapter, knowledge)
        console.print(metrics_table(f"{data.data}, {metrics['n']} examples", metrics))
        if knowledge:
            console.print(knowledge_table(metrics["knowledge"]))
        emit(metrics)


@app.command("data")
@grouped
def data_(
    data: Annotated[str, typer.Argument(metavar="NAME|FILE", help=DATA_HELP, show_default=False)],
    out: Annotated[Path, typer.Option(help="The JSONL file to write.")],
    settings: SettingOptions,
    source: Source = None,
    generator: Generator = None,
    max_calls: MaxCalls = None,
    limit: Limit = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file if it is there.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a data set as yes/no rows, and say how many there are of each label."""
    with command(as_json) as (console, emit):
        from nasalign.jobs.data import data_job
        from nasalign.reporting.console import data_table

        asked = DataOptions(data, source=source, generator=generator, max_calls=max_calls)
        job = make_job(console, data=asked, settings=settings, out=OutOptions(overwrite=overwrite))
        summary = data_job(job, out, limit)
        console.print(data_table([summary]))
        console.print(f"Written to {out}.", highlight=False)
        emit(summary)


@app.command()
@grouped
def ask(
    model: Model,
    question: Annotated[str, typer.Argument(help="A yes/no question, or one for --answer.")],
    settings: SettingOptions,
    load: LoadOptions,
    answer: Annotated[
        str | None, typer.Option(help="An answer to verify: Is the answer ANSWER?")
    ] = None,
    context: Annotated[str | None, typer.Option(help="A text to answer from.")] = None,
    adapter: AdapterOf = None,
    as_json: AsJson = False,
) -> None:
    """Ask one yes/no question, of the untouched model and of the aligned one."""
    with command(as_json) as (console, emit):
        from nasalign.data.qa import BinaryExample
        from nasalign.jobs.ask import ask_job
        from nasalign.reporting.console import answer_tables

        job = make_job(console, model, load=load, settings=settings)
        answers = ask_job(job, BinaryExample(question, True, answer, context), adapter)
        for table in answer_tables(question, answers):
            console.print(table)
        emit(answers)


@app.command()
@grouped
def reproduce(
    model: Annotated[
        list[str],
        typer.Option("--model", metavar="MODEL", help="As for align; may be repeated."),
    ],
    settings: SettingOptions,
    load: LoadOptions,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="all, or such as table-3 or figure-5."),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="A folder of the data sets as they are published; the hub unless given."),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Where all is written; what is there already is used.")
    ] = Path("runs/reproduction"),
    limit: Limit = None,
    judge: Judge = None,
    generator: Generator = None,
    max_calls: MaxCalls = None,
    as_json: AsJson = False,
) -> None:
    """Make the paper's tables and figures for other models, beside the paper's own.

    A model is scored once for each data set and wording; an interrupted reproduction goes on.
    """
    with command(as_json) as (console, emit):
        from nasalign.reporting.console import columns_table
        from nasalign.reproduction.document import DOCUMENT
        from nasalign.reproduction.layout import texts
        from nasalign.reproduction.reproduce import chosen_items, reproduce, studies_of

        items = chosen_items(names or ["all"])
        asked = DataOptions(judge=judge, generator=generator, max_calls=max_calls, limit=limit)
        jobs = [make_job(console, name, load=load, data=asked, settings=settings) for name in model]
        studies, made = studies_of(jobs, data_dir, out), []
        for result in reproduce(studies, items, out, jobs[0].run.reporter):
            made.append(result.name)
            if not result.charts:
                header, rows = texts(result)
                console.print(columns_table(f"{result.name}: {result.title}", rows, header))
        console.print(f"All is in {out / DOCUMENT}; CSV files and pictures are beside it.")
        emit({"document": str(out / DOCUMENT), "made": made})
        if len(made) < len(items):
            raise typer.Exit(2)


@app.command()
def report(
    run_folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run directory, of a finished run or not.")
    ],
    as_json: AsJson = False,
) -> None:
    """Write a run's report again: one HTML page that needs nothing else."""
    with command(as_json) as (console, emit):
        from nasalign.jobs.report import report_job

        path = report_job(run_folder)
        console.print(f"Written to {path}.", highlight=False)
        emit({"report": str(path)})


@app.command()
@grouped
def export(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory of align.")],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="A folder that is not there.")],
    load: LoadOptions,
    form: Annotated[
        Literal["merged", "adapter"],
        typer.Option("--format", help="A whole checkpoint, or the PEFT adapter alone."),
    ] = "merged",
    model: Annotated[
        str, typer.Option(help="The base model; the one named in the run unless given.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Write a corrected model that loads without nasalign."""
    with command(as_json) as (console, emit):
        from nasalign.jobs.export import export_job

        job = make_job(console, model, load=load)
        export_job(job, run_folder, target, form)
        console.print(f"Written to {target}.", highlight=False)
        emit({"target": str(target), "format": form})


def main() -> None:
    """Runs the command line; exits with 0 on success and 2 on a user's mistake."""
    app()
