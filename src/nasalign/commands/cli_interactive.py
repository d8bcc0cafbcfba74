"""Commands that one talks to: a question, a prompt loop, a page."""

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from nasalign.commands.app import app, command
from nasalign.commands.options import (
    AdapterOf,
    AsJson,
    LoadOptions,
    Model,
    SettingOptions,
    grouped,
    make_job,
)
from nasalign.errors import NasAlignError
from nasalign.extras import require

if TYPE_CHECKING:
    from nasalign.commands.ask import Pair


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
        from nasalign.commands.ask import ask_job
        from nasalign.data.records import BinaryExample
        from nasalign.reporting.console_tables import answer_tables

        job = make_job(console, model, load=load, settings=settings)
        answers = ask_job(job, BinaryExample(question, True, answer, context), adapter)
        for table in answer_tables(question, answers):
            console.print(table)
        emit(answers)


@app.command()
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
        from nasalign.commands.ask import Pair
        from nasalign.commands.chat import HELP

        pair = Pair.open(make_job(console, model, load=load, settings=settings), adapter)
        live = sys.stdin.isatty()
        if live:
            console.print(HELP, markup=False, highlight=False)
        typed = _typed(console, as_json) if live else _piped(console)
        failed = _converse(console, emit, pair, typed)
        if failed and not live:
            raise typer.Exit(2)


def _converse(
    console: Console, emit: Callable[[dict[str, Any]], None], pair: "Pair", lines: Iterator[str]
) -> int:
    """Answers line by line; returns how many lines could not be answered."""
    from nasalign.commands.chat import QUIT, reply
    from nasalign.reporting.console_tables import free_table, sides_table

    failed = 0
    for line in filter(None, map(str.strip, lines)):
        if line == QUIT:
            break
        try:
            answer, sides = reply(pair, line)
        except NasAlignError as error:
            failed += 1
            console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
            emit({"line": line, "error": str(error)})
        else:
            free = "message" in answer
            console.print(free_table(sides) if free else sides_table(sides, pair.words))
            emit(answer | sides)
        sys.stdout.flush()  # who reads a pipe waits for each line
    return failed


def _typed(console: Console, as_json: bool) -> Iterator[str]:
    """The lines that are typed, with a history where the system has one."""
    with suppress(ImportError):
        import readline  # noqa: F401  (input() uses it once it is loaded)
    while True:
        try:  # a prompt of input() itself survives editing, but goes to standard output
            yield console.input("> ") if as_json else input("> ")
        except EOFError:
            console.print()
            return


def _piped(console: Console) -> Iterator[str]:
    """The lines of a pipe as they come, shown; what is no UTF-8 in them is replaced."""
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="replace")
    for line in sys.stdin:
        console.print(line.rstrip(), style="bold", markup=False, highlight=False)
        yield line


@app.command()
@grouped
def serve(
    model: Model,
    settings: SettingOptions,
    load: LoadOptions,
    adapter: AdapterOf = None,
    host: Annotated[
        str, typer.Option(help="Where to listen; this machine alone unless given.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")
    ] = 8000,
) -> None:
    """Serve a page to ask at: both answers side by side, and where the heads look.

    It needs the packages of the extra "serve".
    """
    with command(as_json=False) as (console, _):
        require("serve")
        from nasalign.serve.server import serve_job

        serve_job(make_job(console, model, load=load, settings=settings), adapter, host, port)
