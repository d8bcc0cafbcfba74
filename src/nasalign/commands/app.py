"""The application that the commands belong to, and how they end: JSON, errors as exit codes."""

import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from nasalign.errors import NasAlignError, NothingToFixError, OutOfMemoryError, Terminated, visible

app = typer.Typer(
    help="Find and retune the attention heads that make a language model say No too often.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class PlainConsole(Console):
    """A console to which a text is a text: it has no markup, and controls no terminal."""

    def __init__(self, *, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(stderr=stderr, quiet=quiet, markup=False, emoji=False)

    def render_str(self, text: str, **how: Any) -> Text:
        """Renders a text with its control characters written out."""
        return super().render_str(visible(text), **how)


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


@contextmanager
def command(as_json: bool) -> Iterator[tuple[Console, Any]]:
    """Yields the console and what prints the JSON result; turns errors into exit codes."""
    silent = os.environ.get("RANK", "0") != "0"  # of several processes the first one speaks
    console = PlainConsole(stderr=as_json, quiet=silent)
    _quieten_libraries()

    def emit(value: dict[str, Any]) -> None:
        if as_json and not silent:
            sys.stdout.write(json.dumps(value, default=str) + "\n")

    try:
        with _terminable():
            yield console, emit
    except NothingToFixError as nothing:
        console.print(str(nothing), markup=False, highlight=False)
        emit({"nothing_to_fix": str(nothing)})
    except NasAlignError as error:
        # Of several processes, memory may run out in one alone.
        _fail(error, silent and not isinstance(error, OutOfMemoryError))
    except (RuntimeError, MemoryError) as error:
        from nasalign.models.memory import is_out_of_memory, out_of_memory

        if not is_out_of_memory(error):
            raise
        _fail(out_of_memory("working", ways=["less data"]), silent=False)
    except KeyboardInterrupt as stop:
        by, code = ("", 130) if not isinstance(stop, Terminated) else (" by SIGTERM", 143)
        Console(stderr=True).print(f"Stopped{by}; the model's files are untouched.")
        raise typer.Exit(code) from None


def _fail(error: NasAlignError, silent: bool) -> NoReturn:
    """Prints an error and ends with its exit code."""
    failed = PlainConsole(stderr=True, quiet=silent)
    failed.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(2) from error


@contextmanager
def _terminable() -> Iterator[None]:
    """Has SIGTERM end a command as Ctrl-C does: rows are put back, the checkpoint is kept."""

    def terminate(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not cut the end short
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # signals belong to the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _quieten_libraries() -> None:
    """Our own bars and sentences are enough; errors stay."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
