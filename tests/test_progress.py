"""Progress: a line a minute in a log, and in a narrow terminal the numbers without a bar."""

import io

import pytest
from rich.console import Console

from nasalign import progress
from nasalign.progress import Terminal, in_words


def test_a_log_has_a_line_a_minute_with_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    text = io.StringIO()
    with Terminal(Console(file=text, width=200)).stage("Tuning", 100) as done:
        for _ in range(10):
            now[0] += 25
            done(10)
    lines = text.getvalue().splitlines()
    assert lines == [
        "Tuning (100)",
        "Tuning: 30 of 100, about 2.9 minutes left",  # after 75 s; 175 s are left
        "Tuning: 60 of 100, about 1.7 minutes left",
        "Tuning: 90 of 100, about 25 seconds left",
    ]


@pytest.mark.parametrize(("width", "bar"), [(60, False), (120, True)])
def test_a_narrow_terminal_keeps_the_numbers(width: int, bar: bool) -> None:
    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=True, color_system=None)
    with Terminal(console).stage("Evaluating before: facts", 100) as done:
        done(50)
    shown = text.getvalue()
    assert "50/100" in shown
    assert ("\u2501" in shown) == bar


def test_times_are_in_the_unit_that_suits_them() -> None:
    assert [in_words(value) for value in (0.1, 89, 120, 5400, 36000, 200000)] == [
        *("1 second", "89 seconds", "2.0 minutes", "1.5 hours", "10 hours", "2.3 days")
    ]
