"""What a terminal shows while a run is at work: stages with bars and time left."""

import time
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

MINUTE = 60.0
"""Seconds between two lines of a stage where there is no terminal."""
WIDE = 80
"""Characters of a terminal from which on a stage has a bar beside its numbers."""
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
        if not self.console.is_terminal:
            self.say(f"{title} ({total})")
            yield EveryMinute(self.say, title, total)
            return
        wide = self.console.width >= WIDE
        columns = (
            TextColumn("{task.description:<32}" if wide else "{task.description}", markup=False),
            *([BarColumn(bar_width=30)] if wide else []),  # the numbers say more
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with RichProgress(*columns, console=self.console) as bars:
            task = bars.add_task(visible(title), total=total)
            yield lambda done: bars.advance(task, done)


class EveryMinute:
    """Says where a stage is, at most once a minute: for a log, in which bars are no use."""

    def __init__(self, say: Callable[[str], None], title: str, total: int) -> None:
        self.say, self.title, self.total, self.done = say, title, total, 0
        self.begun = self.said = time.monotonic()

    def __call__(self, done: int) -> None:
        """Count the samples done; say a line if the last one is a minute ago."""
        self.done += done
        now = time.monotonic()
        if now - self.said < MINUTE or not 0 < self.done < self.total:
            return
        self.said = now
        left = (now - self.begun) * (self.total - self.done) / self.done
        self.say(f"{self.title}: {self.done} of {self.total}, about {in_words(left)} left")


def in_words(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * size:
            value = seconds / size
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    whole = max(1, round(seconds))
    return f"{whole} second{'s' if whole > 1 else ''}"
