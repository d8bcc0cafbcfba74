"""What a terminal shows while a run is at work: stages with bars and time left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as RichProgress,
)

from nasalign.errors import visible

Progress = Callable[[int], None]
"""Is called with the number of further samples done."""


class Reporter(Protocol):
    """Is told what a run does."""

    def say(self, text: str) -> None:
        """Take a sentence."""

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Progress]:
        """Open a stage of ``total`` samples; the context yields what to tell of those done."""
        yield lambda done: None


class Quiet:
    """A reporter that shows nothing."""

    def say(self, text: str) -> None:
        """Show nothing."""

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Progress]:
        """Show nothing."""
        yield lambda done: None


class Terminal:
    """A reporter that writes to a terminal; bars only where there is one.

    Args:
        console: Rich's console; with ``--json`` one that writes to standard error.
    """

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, text: str) -> None:
        """Print a sentence, above the bar if one is shown; on one line unless to a terminal."""
        whole = not self.console.is_terminal  # a path that is broken over lines cannot be found
        self.console.print(visible(text), highlight=False, markup=False, soft_wrap=whole)

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Progress]:
        """Show a bar with the time that passed and the time left."""
        columns = (
            TextColumn("{task.description:<32}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        if not self.console.is_terminal:
            self.say(f"{title} ({total})")
        with RichProgress(
            *columns, console=self.console, disable=not self.console.is_terminal
        ) as bars:
            task = bars.add_task(visible(title), total=total)
            yield lambda done: bars.advance(task, done)
