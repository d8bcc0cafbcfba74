"""What a terminal shows of a verdict and of answers."""

import io
import math

from rich.console import Console

from nasalign.reporting.console_tables import answer_line, change_table, print_verdict
from nasalign.reporting.report.story import Verdict


def shown(width: int, terminal: bool, *things: object) -> list[str]:
    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=terminal, color_system=None)
    for thing in things:
        if isinstance(thing, Verdict):
            print_verdict(console, thing)
        else:
            console.print(thing)
    return text.getvalue().splitlines()


def test_a_verdict_is_the_headline_and_its_notes() -> None:
    verdict = Verdict(
        "More accurate, more wrong Yes", "mixed", "It says " + "so " * 40, ["A note."]
    )
    lines = shown(60, False, verdict)
    assert lines[1] == verdict.label
    assert lines[2].strip() == verdict.sentence.strip()  # on one line in a file
    assert lines[3] == "* A note."
    assert max(map(len, shown(60, True, verdict))) <= 60


def test_an_answer_begins_with_what_each_model_says() -> None:
    answers = {"untouched": {"verdict": "negative"}, "aligned": {"verdict": "positive"}}
    assert answer_line(answers, ("Yes", "No")) == "untouched: No -> aligned: Yes"
    assert answer_line({"untouched": {"verdict": "invalid"}}, ("Ja", "Nein")) == (
        "untouched: neither word"
    )


def test_a_change_of_what_is_undefined_is_none() -> None:
    sides = {"precision": None, "ece": 0.25}, {"precision": 0.5, "ece": 0.2575}
    change = {"precision": (math.nan,) * 3, "ece": (0.0075, -0.01, 0.0125)}
    says = "\n".join(shown(120, False, change_table("facts", *sides, change)))
    assert "- (never said Yes)" in says
    (line,) = (one for one in says.splitlines() if "calibration error" in one)
    for part in ("0.250", "0.258", "+0.008", "-0.010 to +0.013"):
        assert part in line
    (line,) = (one for one in says.splitlines() if "precision" in one)
    assert "+" not in line
    assert "nan" not in line
