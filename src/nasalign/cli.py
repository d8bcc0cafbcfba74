"""The command line: thin, one function a command; torch is loaded only when a command runs."""

from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import typer

from nasalign.options import (
    DATA_HELP,
    AdapterOf,
    AsJson,
    Config,
    Data,
    DataOptions,
    Device,
    Dtype,
    Generator,
    Judge,
    Limit,
    MaxCalls,
    Model,
    OptionalOut,
    Overwrite,
    ProbingData,
    Remote,
    Set,
    Source,
    SplitOf,
    command,
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
def align(
    model: Model,
    data: Data = "facts",
    probing_data: ProbingData = None,
    further: Annotated[
        list[str] | None,
        typer.Option("--eval", help="Further data to evaluate on; may be repeated."),
    ] = None,
    source: Source = None,
    judge: Judge = None,
    generator: Generator = None,
    max_calls: MaxCalls = None,
    limit: Limit = None,
    out: Annotated[
        Path | None, typer.Option(help="The run directory; runs/MODEL unless given.")
    ] = None,
    overwrite: Overwrite = False,
    config: Config = None,
    set_: Set = None,
    device: Device = None,
    dtype: Dtype = None,
    trust_remote_code: Remote = False,
    as_json: AsJson = False,
) -> None:
    """Find the heads that say No, retune them, and show before and after."""
    with command(as_json) as (console, emit):
        from nasalign.jobs.align import align_job
        from nasalign.reporting.console import change_table

        folder = out or Path("runs") / Path(model).name
        job = make_job(
            console,
            model,
            device,
            dtype,
            trust_remote_code,
            data=DataOptions(data, probing_data, further or (), source),
            config=config,
            assignments=set_,
            shortcuts={
                "judge": judge,
                "generator": generator,
                "max_calls": max_calls,
                "evaluation_questions": limit,
            },
            folder=folder,
            overwrite=overwrite,
        )
        result = align_job(job, further or ())
        for name, sides in result["datasets"].items():
            title = f"{name}, {sides['before']['n']} test examples"
            change = result["changes"][name]
            console.print(change_table(title, sides["before"], sides["after"], change))
        adapter = folder / "adapter"
        if adapter.is_dir():
            console.print(f"The adapter is in {adapter}; all else of the run is beside it.")
            console.print(f"Try it: nasalign ask {model} QUESTION --adapter {folder}")
        else:
            console.print(f"No head was kept, so there is no adapter; {folder} says why.")
        emit(result | {"run": str(folder)})


@app.command()
def diagnose(
    model: Model,
    data: Data = "facts",
    probing_data: ProbingData = None,
    source: Source = None,
    judge: Judge = None,
    generator: Generator = None,
    max_calls: MaxCalls = None,
    limit: Limit = None,
    out: OptionalOut = None,
    overwrite: Overwrite = False,
    config: Config = None,
    set_: Set = None,
    device: Device = None,
    dtype: Dtype = None,
    trust_remote_code: Remote = False,
    as_json: AsJson = False,
) -> None:
    """Say which way a model leans, by how much, and which heads have the highest NAS."""
    with command(as_json) as (console, emit):
        from nasalign.jobs.diagnose import diagnose_job
        from nasalign.reporting.console import columns_table, metrics_table

        job = make_job(
            console,
            model,
            device,
            dtype,
            trust_remote_code,
            data=DataOptions(data, probing_data, source=source),
            config=config,
            assignments=set_,
            shortcuts={
                "judge": judge,
                "generator": generator,
                "max_calls": max_calls,
                "evaluation_questions": limit,
            },
            folder=out,
            overwrite=overwrite,
        )
        diagnosis = diagnose_job(job)
        title = "Right and wrong answers to questions whose answer the model knows"
        if probing_data not in (None, data):
            title = f"{data}, {diagnosis['metrics']['n']} examples"
        console.print(metrics_table(title, diagnosis["metrics"]))
        rows = [
            (f"layer {head['layer']}, head {head['head']}", f"{head['nas']:.2f}")
            for head in diagnosis["heads"]
        ]
        console.print(columns_table("Heads of highest NAS", rows, ("head", "single head NAS")))
        console.print(diagnosis["sentence"], highlight=False)
        emit(diagnosis)


@app.command()
def evaluate(
    model: Model,
    data: Data = "facts",
    probing_data: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Where few-shot examples are from."),
    ] = None,
    source: Source = None,
    split: SplitOf = None,
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
    judge: Judge = None,
    generator: Generator = None,
    max_calls: MaxCalls = None,
    limit: Limit = None,
    out: OptionalOut = None,
    overwrite: Overwrite = False,
    config: Config = None,
    set_: Set = None,
    device: Device = None,
    dtype: Dtype = None,
    trust_remote_code: Remote = False,
    as_json: AsJson = False,
) -> None:
    """Measure a model, with an adapter if given, on data it was not tuned on."""
    with command(as_json) as (console, emit):
        from nasalign.jobs.evaluate import evaluate_job
        from nasalign.reporting.console import knowledge_table, metrics_table

        job = make_job(
            console,
            model,
            device,
            dtype,
            trust_remote_code,
            data=DataOptions(data, probing_data, source=source),
            config=config,
            assignments=set_,
            shortcuts={
                "split": split,
                "decoder": decoder,
                "judge": judge,
                "generator": generator,
                "max_calls": max_calls,
                "evaluation_questions": limit,
            },
            folder=out,
            overwrite=overwrite,
        )
        metrics = evaluate_job(job, adapter, knowledge)
        console.print(metrics_table(f"{data}, {metrics['n']} examples", metrics))
        if knowledge:
            console.print(knowledge_table(metrics["knowledge"]))
        emit(metrics)


@app.command("data")
def data_(
    data: Annotated[str, typer.Argument(metavar="NAME|FILE", help=DATA_HELP, show_default=False)],
    out: Annotated[Path, typer.Option(help="The JSONL file to write.")],
    source: Source = None,
    generator: Generator = None,
    max_calls: MaxCalls = None,
    limit: Limit = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file if it is there.")
    ] = False,
    config: Config = None,
    set_: Set = None,
    as_json: AsJson = False,
) -> None:
    """Write a data set as yes/no rows, and say how many there are of each label."""
    with command(as_json) as (console, emit):
        from nasalign.jobs.data import data_job
        from nasalign.reporting.console import data_table

        job = make_job(
            console,
            data=DataOptions(data, source=source),
            config=config,
            assignments=set_,
            shortcuts={"generator": generator, "max_calls": max_calls},
            overwrite=overwrite,
        )
        summary = data_job(job, out, limit)
        console.print(data_table([summary]))
        console.print(f"Written to {out}.", highlight=False)
        emit(summary)


@app.command()
def ask(
    model: Model,
    question: Annotated[str, typer.Argument(help="A yes/no question, or one for --answer.")],
    answer: Annotated[
        str | None, typer.Option(help="An answer to verify: Is the answer ANSWER?")
    ] = None,
    context: Annotated[str | None, typer.Option(help="A text to answer from.")] = None,
    adapter: AdapterOf = None,
    config: Config = None,
    set_: Set = None,
    device: Device = None,
    dtype: Dtype = None,
    trust_remote_code: Remote = False,
    as_json: AsJson = False,
) -> None:
    """Ask one yes/no question, of the untouched model and of the aligned one."""
    with command(as_json) as (console, emit):
        from nasalign.data.qa import BinaryExample
        from nasalign.jobs.ask import ask_job
        from nasalign.reporting.console import answer_tables

        job = make_job(
            console, model, device, dtype, trust_remote_code, config=config, assignments=set_
        )
        answers = ask_job(job, BinaryExample(question, True, answer, context), adapter)
        for table in answer_tables(question, answers):
            console.print(table)
        emit(answers)


@app.command()
def export(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory of align.")],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="A folder that is not there.")],
    form: Annotated[
        Literal["merged", "adapter"],
        typer.Option("--format", help="A whole checkpoint, or the PEFT adapter alone."),
    ] = "merged",
    model: Annotated[
        str, typer.Option(help="The base model; the one named in the run unless given.")
    ] = "",
    device: Device = None,
    dtype: Dtype = None,
    trust_remote_code: Remote = False,
    as_json: AsJson = False,
) -> None:
    """Write a corrected model that loads without nasalign."""
    with command(as_json) as (console, emit):
        from nasalign.jobs.export import export_job

        job = make_job(console, model, device, dtype, trust_remote_code)
        export_job(job, run_folder, target, form)
        console.print(f"Written to {target}.", highlight=False)
        emit({"target": str(target), "format": form})


def main() -> None:
    """Runs the command line; exits with 0 on success and 2 on a user's mistake."""
    app()
