"""What commands take and how they end: options, settings, JSON, errors as exit codes."""

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from nasalign.config import parse_assignments, settings_from_file
from nasalign.errors import NasAlignError, NothingToFixError

if TYPE_CHECKING:
    from nasalign.jobs import Job

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


def make_job(
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
    """Returns what a command was given, as the jobs take it.

    Raises:
        NasAlignError: the settings file or an assignment is broken.
    """
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
def command(as_json: bool) -> Iterator[tuple[Console, Any]]:
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
    """Our own bars and sentences are enough; errors stay."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
