"""The command line: thin, one function a command; torch is loaded only when a command runs."""

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from nasalign.config import parse_assignments, settings_from_file
from nasalign.errors import NasAlignError, NothingToFixError

if TYPE_CHECKING:
    from nasalign.jobs import Job

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


Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A hub id, a local folder, a GGUF file, or the alias smollm2-135m.",
        show_default=False,
    ),
]
Data = Annotated[
    str, typer.Option(help="facts, or a .jsonl, .json or .csv file with question and answer.")
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1 or mps; the best there is unless given.")
]
Dtype = Annotated[
    str | None, typer.Option(help="float32, bfloat16 or float16; by the device unless given.")
]
Remote = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that the model brings along.")
]
Config = Annotated[
    Path | None, typer.Option(help="A TOML file of settings; the preset for the size unless given.")
]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="A setting as key=value; may be repeated.")
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object; all else goes to standard error.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Use a run directory again.")]
AdapterOf = Annotated[
    Path | None, typer.Option("--adapter", help="A run directory, or an adapter folder.")
]
OptionalOut = Annotated[
    Path | None, typer.Option(help="A run directory to write; nothing is written unless given.")
]


@app.command()
def align(
    model: Model,
    data: Data = "facts",
    further: Annotated[
        list[Path] | None,
        typer.Option("--eval", help="A further file to evaluate on; may be repeated."),
    ] = None,
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
    with _command(as_json) as (console, emit):
        from nasalign.jobs import align_job
        from nasalign.reporting.console import change_table

        folder = out or Path("runs") / Path(model).name
        job = _job(
            console, model, device, dtype, trust_remote_code, config, set_, folder, overwrite
        )
        result = align_job(job, data, further or [])
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
    with _command(as_json) as (console, emit):
        from nasalign.jobs import diagnose_job
        from nasalign.reporting.console import columns_table, metrics_table

        job = _job(console, model, device, dtype, trust_remote_code, config, set_, out, overwrite)
        diagnosis = diagnose_job(job, data)
        title = "Right and wrong answers to questions whose answer the model knows"
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
    adapter: AdapterOf = None,
    decoder: Annotated[
        Literal["logits", "generate"] | None,
        typer.Option(help="logits compares probabilities; generate decodes greedily and parses."),
    ] = None,
    out: OptionalOut = None,
    overwrite: Overwrite = False,
    config: Config = None,
    set_: Set = None,
    device: Device = None,
    dtype: Dtype = None,
    trust_remote_code: Remote = False,
    as_json: AsJson = False,
) -> None:
    """Measure a model, with an adapter if given, on the test split of the data."""
    with _command(as_json) as (console, emit):
        from nasalign.jobs import evaluate_job
        from nasalign.reporting.console import metrics_table

        set_ = [*(set_ or []), *([f"decoder={decoder}"] if decoder else [])]
        job = _job(console, model, device, dtype, trust_remote_code, config, set_, out, overwrite)
        metrics = evaluate_job(job, data, adapter)
        console.print(metrics_table(f"{data}, {metrics['n']} test examples", metrics))
        emit(metrics)


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
    with _command(as_json) as (console, emit):
        from nasalign.data.qa import BinaryExample
        from nasalign.jobs import ask_job
        from nasalign.reporting.console import answer_tables

        job = _job(console, model, device, dtype, trust_remote_code, config, set_)
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
    with _command(as_json) as (console, emit):
        from nasalign.jobs import export_job

        job = _job(console, model, device, dtype, trust_remote_code)
        export_job(job, run_folder, target, form)
        console.print(f"Written to {target}.", highlight=False)
        emit({"target": str(target), "format": form})


def main() -> None:
    """Runs the command line; exits with 0 on success and 2 on a user's mistake."""
    app()


def _job(
    console: Console,
    model: str,
    device: str | None,
    dtype: str | None,
    trust_remote_code: bool,
    config: Path | None = None,
    assignments: list[str] | None = None,
    folder: Path | None = None,
    overwrite: bool = False,
) -> "Job":
    """What a command was given, as the jobs take it."""
    from nasalign.jobs import Job
    from nasalign.reporting.console import Terminal
    from nasalign.run import Run

    return Job(
        model=model,
        run=Run(Terminal(console)),
        folder=folder,
        overwrite=overwrite,
        preset=settings_from_file(config) if config else None,
        changes=parse_assignments(assignments or []),
        device=device,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
    )


@contextmanager
def _command(as_json: bool) -> Iterator[tuple[Console, Any]]:
    """Yields the console and what prints the JSON result; turns errors into exit codes."""
    console = Console(stderr=as_json)
    _quieten_libraries()

    def emit(value: dict[str, Any]) -> None:
        if as_json:
            sys.stdout.write(json.dumps(value, default=str) + "\n")

    try:
        yield console, emit
    except NothingToFixError as nothing:
        console.print(str(nothing), markup=False, highlight=False)
        emit({"nothing_to_fix": str(nothing)})
    except NasAlignError as error:
        Console(stderr=True).print(str(error), style="red", markup=False, highlight=False)
        raise typer.Exit(2) from error
    except KeyboardInterrupt:
        Console(stderr=True).print("Stopped; the model's files are untouched.")
        raise typer.Exit(130) from None


def _quieten_libraries() -> None:
    """Our own bars and sentences are enough; warnings stay."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
