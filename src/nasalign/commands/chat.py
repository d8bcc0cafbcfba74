"""``nasalign chat``."""

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Annotated, Any

import typer
from rich.console import Console

from nasalign.commands.app import command
from nasalign.commands.ask import open_both
from nasalign.commands.job import Job
from nasalign.commands.options import (
    AdapterOf,
    LoadOptions,
    Model,
    SettingOptions,
    grouped,
)
from nasalign.errors import NasAlignError
from nasalign.evaluation.both_models import BothModels
from nasalign.reporting.console_tables import free_table, sides_table

FREE, QUIT = "/free", "/quit"
HELP = f"Ask a yes/no question; {FREE} before anything else; {QUIT} or Ctrl-D ends."


@grouped
def chat(
    model: Model,
    settings: SettingOptions,
    load: LoadOptions,
    adapter: AdapterOf = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object a line; all else to standard error.")
    ] = False,
) -> None:
    """Ask question after question; lines of a pipe are answered one by one.

    A line is a yes/no question. What stands behind /free is answered freely; /quit or Ctrl-D ends.
    """
    with command(as_json) as (console, emit):
        job = Job.of(console, "chat", model, load=load, settings=settings, adapter=adapter)
        models = open_both(job)
        live = sys.stdin.isatty()
        if live:
            console.print(HELP, markup=False, highlight=False)
        lines = _typed(console, as_json) if live else _piped(console)
        failed = 0
        for line in filter(None, map(str.strip, lines)):
            if line == QUIT:
                break
            failed += not _answered(console, emit, models, line)
            sys.stdout.flush()  # whoever reads a pipe waits for each line
        if failed and not live:
            raise typer.Exit(2)


def _answered(
    console: Console, emit: Callable[[dict[str, Any]], None], models: BothModels, line: str
) -> bool:
    """Answer a line, or print why not; return whether it was answered."""
    first, _, rest = line.partition(" ")
    message = rest.strip()
    try:
        if first == FREE and message:
            free = models.free(message)
            console.print(free_table(free))
            emit({"message": message} | free)
        elif first == FREE:
            raise NasAlignError(f"Type the message to answer after {FREE}.")
        elif first.startswith("/"):
            raise NasAlignError(f"There is no {first} here. {HELP}")
        else:
            answers = models.ask(models.example({"question": line}))
            console.print(sides_table(answers, models.words))
            emit({"question": line} | answers)
    except NasAlignError as error:
        console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        emit({"line": line, "error": str(error)})
        return False
    return True


def _typed(console: Console, as_json: bool) -> Iterator[str]:
    """Yield the lines typed, with a history where the system has one."""
    with suppress(ImportError):
        import readline  # noqa: F401  (input() uses it once it is loaded)
    while True:
        try:  # the prompt of input() survives editing, but goes to standard output
            yield console.input("> ") if as_json else input("> ")
        except EOFError:
            console.print()
            return


def _piped(console: Console) -> Iterator[str]:
    """Yield the lines of a pipe as they come, and print them; invalid UTF-8 is replaced."""
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="replace")
    for line in sys.stdin:
        console.print(line.rstrip(), style="bold", markup=False, highlight=False)
        yield line
