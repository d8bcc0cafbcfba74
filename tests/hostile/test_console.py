"""Whatever a question, a name or an error holds, a terminal shows it and does nothing else."""

import json
from pathlib import Path

import pytest
from rich.table import Table

from fault_tools import done, invoke, refused
from nasalign.commands.app import PlainConsole
from nasalign.errors import visible
from nasalign.progress import Terminal
from nasalign.reporting.console_tables import columns_table

HOSTILE = "[red]Is [/] it [link=http://x]so?\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202ereversed :smile:"


def harmless(shown: str) -> None:
    assert not any(sign in shown for sign in "\x1b\x07\r\x9b\u202e\x00"), repr(shown)


def test_a_text_is_shown_as_it_is_written() -> None:
    assert visible("a\x1b[1m\x00\ud800\u202e") == "a\\x1b[1m\\x00\\ud800\\u202e"
    assert visible("Zürich 東京\n\t👩‍👩‍👧 العربية") == "Zürich 東京\n\t👩‍👩‍👧 العربية"


def test_tables_and_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    console = PlainConsole()
    console.width = 300
    console.print(columns_table(HOSTILE, [(HOSTILE, "1")], (HOSTILE, "n")))
    console.print(HOSTILE)
    Terminal(console).say(HOSTILE)
    with Terminal(console).stage(HOSTILE, 1) as advance:
        advance(1)
    table = Table(title=HOSTILE)
    table.add_column(HOSTILE)
    console.print(table)
    shown = capsys.readouterr().out
    harmless(shown)
    assert shown.count("[red]Is [/] it [link=http://x]so?\\x1b]0;owned\\x07") >= 7
    assert ":smile:" in shown


def test_ask(saved: Path) -> None:
    shown = done("ask", saved, HOSTILE, "--answer", "[/x]", "--context", "\0").output
    harmless(shown)
    assert "[red]Is [/]" in shown
    assert "Is the answer [/x]?" in " ".join(shown.split())  # it may be wrapped


@pytest.mark.parametrize("command", ["align", "evaluate", "ask"])
def test_a_model_s_name(command: str) -> None:
    asked = ["ask", HOSTILE, "Is it?"] if command == "ask" else [command, HOSTILE]
    result = invoke(*asked)
    assert "[red]" in refused(result)
    harmless(result.output)


def test_a_data_set_s_name_and_its_rows(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "[bold]set\x1b[31m.jsonl"
    rows = [{"question": f"Is {HOSTILE} {number}?", "answer": "yes"} for number in range(3)]
    rows.append({"question": "What is zz?", "answer": "zz", "id": HOSTILE})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = done("evaluate", saved, "--data", path, "--split", "all", "--limit", 9).output
    harmless(shown)
    assert "[bold]set\\x1b[31m" in shown
    harmless(done("data", path, "--out", tmp_path / "rows.jsonl").output)


def test_an_error_names_what_is_wrong_harmlessly(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"question": "?", "answer": HOSTILE, "options": ["a"]}) + "\n")
    result = invoke("data", path, "--out", tmp_path / "out.jsonl")
    assert "none of its options" in refused(result)
    harmless(result.output)
