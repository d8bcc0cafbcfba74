"""The application: its commands, each imported when it is run, and how errors become exit codes.

The command files import torch, which takes seconds; ``nasalign --help`` must not wait for it.
"""

import json
import logging
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from nasalign.commands.early import check_early
from nasalign.commands.help import PlainCommand, PlainFlags, with_panels
from nasalign.errors import NasAlignError, NothingToFixError, OutOfMemoryError, Terminated, visible

COMMANDS = {
    "doctor": "Say what is here to work with, and what is missing: versions, devices, folders, "
    "extras.",
    "diagnose": "Say which way a model leans, by how much, and which heads have the highest NAS.",
    "align": "Find the heads that say No, retune them, and show before and after.",
    "ask": "Ask one yes/no question, of the untouched model and of the aligned one.",
    "chat": "Ask question after question; lines of a pipe are answered one by one.",
    "serve": "Serve a page to ask at, with both answers side by side, and an API like OpenAI's.",
    "evaluate": "Measure a model, with an adapter if given, on data it was not tuned on.",
    "compare": "Set other ways to correct a model beside ours: same data, same splits, same "
    "decoder.",
    "export": "Write a corrected model that loads without nasalign.",
    "report": "Write a run's report again: one HTML page that needs nothing else.",
    "data": "Write a data set as yes/no rows, and say how many there are of each label.",
    "reproduce": "Make the paper's tables and figures for other models, beside the paper's own.",
}
"""The first line of each command's help, in the order of use; a test compares."""


RESUMABLE = {"align": ["--resume"], "compare": ["--resume"], "reproduce": []}
"""Commands whose runs can be resumed, with what is added to their words for it."""

FIRST_STEPS = """\
nasalign corrects a language model that says No, or Yes, too often:

  nasalign diagnose MODEL
      which way does it lean, and by how much?
  nasalign align MODEL --out runs/mine
      correct it, and measure it before and after
  nasalign ask MODEL "Is Paris in France?" --adapter runs/mine
      put a question to both

MODEL is a hub id, a folder, a GGUF file or smollm2-135m (no account needed).
nasalign --help lists all commands, nasalign align --help the options of one."""
"""What ``nasalign`` alone prints."""


class LazyGroup(PlainFlags, TyperGroup):
    """A group that lists its commands from ``COMMANDS`` and imports the one that is run."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {name: TyperCommand(name, help=line) for name, line in COMMANDS.items()}

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Without arguments, print the first steps in place of the list of all commands."""
        if not args and not ctx.resilient_parsing:
            typer.echo(FIRST_STEPS)
            ctx.exit()
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Replace the entry of the list by the command itself."""
        name, listed, rest = super().resolve_command(ctx, args)
        if listed:
            try:
                check_early(str(name), rest)
            except NasAlignError as error:
                _fail(error, silent=_is_silent())
        return name, listed and load_command(str(name)), rest

    def invoke(self, ctx: Any) -> Any:
        """Run a command; Ctrl-C and SIGTERM end it by one line, also while it is imported."""
        words = [*ctx._protected_args, *ctx.args]
        try:
            with _terminable():
                return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            by, code = ("", 130) if not isinstance(stop, Terminated) else (" by SIGTERM", 143)
            console = PlainConsole(stderr=True)
            console.print(f"Stopped{by}; the model's files are untouched.", soft_wrap=True)
            if words and words[0] in RESUMABLE:
                how = f"To resume it: {resuming_command(words)}"
                console.print(how, soft_wrap=True, highlight=False)
            raise typer.Exit(code) from None


def resuming_command(words: Sequence[str]) -> str:
    """Return the command that resumes a run, by the words that began it."""
    kept = [word for word in words if word not in ("--overwrite", "--resume")]
    return shlex.join(["nasalign", *kept, *RESUMABLE[words[0]]])


def load_command(name: str) -> Any:
    """Import a command, ``commands.NAME.NAME``, and return it as Typer runs it."""
    # The libraries read these when they are imported. Our own progress bars are enough.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    _quieten_imports()
    module = import_module(f"nasalign.commands.{name}")
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command(name, cls=PlainCommand)(getattr(module, name))
    return with_panels(typer.main.get_command(alone))


app = typer.Typer(
    cls=LazyGroup,
    help="Find and retune the attention heads that make a language model say No too often.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class PlainConsole(Console):
    """A console that prints text as it is: no markup, no emoji codes, no control characters."""

    def __init__(self, *, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(stderr=stderr, quiet=quiet, markup=False, emoji=False)

    def render_str(self, text: str, **how: Any) -> Text:
        """Render a text with its control characters escaped."""
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
    """Yield the console and what prints the JSON result; turns errors into exit codes."""
    silent = _is_silent()
    console = PlainConsole(stderr=as_json, quiet=silent)
    _quieten_libraries()

    def emit(value: dict[str, Any]) -> None:
        if as_json and not silent:
            sys.stdout.write(json.dumps(value, default=str) + "\n")

    try:
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


def _is_silent() -> bool:
    """Whether this is not the first of several processes, which alone prints."""
    return os.environ.get("RANK", "0") != "0"


def _fail(error: NasAlignError, silent: bool) -> NoReturn:
    """Print an error and end with its exit code."""
    failed = PlainConsole(stderr=True, quiet=silent)
    failed.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(2) from error


@contextmanager
def _terminable() -> Iterator[None]:
    """Make SIGTERM end a command as Ctrl-C does: rows are restored, the checkpoint is kept."""

    def terminate(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not end the clean-up
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


def begin_worker(*given: Any) -> None:
    """Prepare this process to measure rows for another (``row_workers``)."""
    _quieten_imports()
    from nasalign.commands.row_workers import begin

    _quieten_libraries()
    begin(*given)


def _quieten_imports() -> None:
    """Silence what libraries say when they are imported."""
    # peft imports it, and it warns of kernels that it could download.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def _quieten_libraries() -> None:
    """Silence warnings and bars of libraries; errors stay."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
