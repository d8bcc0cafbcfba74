"""What commands take and how they end: options, settings, JSON, errors as exit codes."""

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from nasalign.config import parse_assignments, settings_from_file
from nasalign.errors import NasAlignError, NothingToFixError

if TYPE_CHECKING:
    from nasalign.jobs.job import Job

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A hub id, a local folder, a GGUF file, or the alias smollm2-135m.",
        show_default=False,
    ),
]
DATA_HELP = (
    "facts; hotpotqa, strategyqa, musique, gsm8k-rephrased, math-rephrased, gsm8k, math, ar-lsat; "
    "or a .jsonl, .json or .csv file with question and answer."
)
Data = Annotated[str, typer.Option(metavar="NAME|FILE", help=DATA_HELP)]
ProbingData = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE", help="What is asked to find what the model knows; --data unless given."
    ),
]
Source = Annotated[
    list[str] | None,
    typer.Option(
        "--source",
        metavar="[NAME=]FILE",
        help="Read a named data set from a local file in its upstream layout, or from a folder in "
        "the hub's layout, in place of the hub; may be repeated.",
    ),
]
Judge = Annotated[
    str | None,
    typer.Option(
        metavar="WHO", help="Who judges free answers: match, self, or openai:MODEL (Table 15)."
    ),
]
Generator = Annotated[
    str | None,
    typer.Option(
        metavar="WHO", help="Who writes wrong answers: rules, self, or openai:MODEL (Table 13)."
    ),
]
MaxCalls = Annotated[int | None, typer.Option(help="Calls of an endpoint at most.")]
Limit = Annotated[int | None, typer.Option(help="Questions to take at most.")]
SplitOf = Annotated[
    Literal["auto", "test", "development", "all"] | None,
    typer.Option(help="Which subjects: auto takes all of a data set of the paper, else test."),
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


@dataclass(frozen=True)
class DataOptions:
    """What a command was told of its data.

    Attributes:
        data: a name or a file.
        probing_data: the same of what is probed, or None.
        further: further data to evaluate on.
        source: local files of named data sets, as given.
    """

    data: str = "facts"
    probing_data: str | None = None
    further: Sequence[str] = ()
    source: Sequence[str] | None = None


def make_job(
    console: Console,
    model: str = "",
    device: str | None = None,
    dtype: str | None = None,
    trust_remote_code: bool = False,
    *,
    data: DataOptions = DataOptions(),
    config: Path | None = None,
    assignments: list[str] | None = None,
    shortcuts: Mapping[str, Any] | None = None,
    folder: Path | None = None,
    overwrite: bool = False,
) -> "Job":
    """Returns what a command was given, as the jobs take it.

    Args:
        console: where the job shows what it does.
        model: see ``Job``, as the next three.
        device: of the model.
        dtype: of its weights.
        trust_remote_code: run code that it brings along.
        data: what it is asked.
        config: a file of settings.
        assignments: settings as ``key=value``.
        shortcuts: settings that have an option of their own; None where it was not given.
        folder: the run directory.
        overwrite: whether it may be there already.

    Raises:
        NasAlignError: the settings file, an assignment or a source is broken.
    """
    from nasalign.jobs.job import Job, local_sources
    from nasalign.reporting.console import Terminal
    from nasalign.run import Run

    given = {name: value for name, value in (shortcuts or {}).items() if value is not None}
    names = [data.data, data.probing_data, *data.further]
    return Job(
        model=model,
        data=data.data,
        probing_data=data.probing_data,
        sources=local_sources(data.source or [], names),
        run=Run(Terminal(console)),
        folder=folder,
        overwrite=overwrite,
        preset=settings_from_file(config) if config else None,
        changes=parse_assignments(assignments or []) | given,
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
