"""`chat`: lines of a pipe, lines that are typed, and both models in one memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from fault_tools import done
from nasalign.commands import app
from nasalign.commands.ask import open_both
from nasalign.commands.job import Job
from nasalign.data.records import BinaryExample
from nasalign.errors import NasAlignError
from nasalign.evaluation.both_models import TOP, BothModels, shown_heads
from nasalign.evaluation.evaluation import run_evaluation
from nasalign.head_rows.rows import read_weight_rows
from tiny_pair import make_pair

PARIS = BinaryExample("Is Paris in France?", True)
MARKUP = "Is [/b] the answer [red]?"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_pair(tmp_path_factory.mktemp("chat"))


@pytest.fixture(scope="module")
def pair(folders: tuple[Path, Path]) -> BothModels:
    return open_both(Job(model=str(folders[0]), adapter=folders[1]))


def chat(folders: tuple[Path, Path], typed: str | bytes, *options: str) -> Result:
    model, adapter = map(str, folders)
    command = ["chat", model, "--adapter", adapter, *options]
    return CliRunner().invoke(app, command, input=typed)


def test_each_side_is_the_model_with_its_own_rows(pair: BothModels) -> None:
    assert pair.adapter is not None
    answers = pair.ask(PARIS)
    for side, change in (("untouched", pair.adapter.revert), ("aligned", pair.adapter.apply)):
        change(pair.model)
        try:
            scores = run_evaluation(
                pair.model, pair.session.tokenizer, [PARIS], pair.session.settings
            ).scores
        finally:
            pair.adapter.revert(pair.model)
        assert answers[side]["p_yes"] == float(scores.p_positive[0])
        assert answers[side]["p_no"] == float(scores.p_negative[0])
        assert answers[side]["nas"] == pytest.approx(float(scores.nas.sum()), abs=1e-4)
    assert answers["untouched"]["nas"] != answers["aligned"]["nas"]


def test_it_is_left_untouched_also_after_an_error(pair: BothModels) -> None:
    assert pair.adapter is not None

    def broken(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 2:  # with the aligned model
            raise RuntimeError("broken")

    calls: list[object] = []
    with pytest.raises(RuntimeError, match="broken"):
        pair._both(broken)
    for where, rows in pair.adapter.before.items():
        assert torch.equal(read_weight_rows(pair.model, where), rows)


def test_it_says_where_the_heads_look(pair: BothModels) -> None:
    answers = pair.ask(PARIS)
    heads = shown_heads(answers)
    assert TOP <= len(heads) <= 2 * TOP
    seen = pair.look(PARIS, heads)
    tokens = seen["tokens"]
    assert (tokens[seen["yes"]], tokens[seen["no"]]) == (" Yes", " No")
    assert "Paris in France?" in "".join(tokens)
    nas = {
        (side, head["layer"], head["head"]): head["nas"]
        for side, answer in answers.items()
        for head in answer["heads"]
    }
    for head in seen["heads"]:
        for side in ("untouched", "aligned"):
            assert len(head[side]["weights"]) == len(tokens)
            assert sum(head[side]["weights"]) == pytest.approx(1, abs=1e-3)
            named = nas.get((side, head["layer"], head["head"]))
            assert named is None or head[side]["nas"] == pytest.approx(named, abs=1e-4)
    changed = [h for h in seen["heads"] if h["untouched"]["weights"] != h["aligned"]["weights"]]
    assert changed


def test_a_scenario_words_the_prompt_that_is_looked_at(folders: tuple[Path, Path]) -> None:
    pair = open_both(Job(model=str(folders[0]), shortcuts={"scenario": "unsure"}))
    assert "or I don't know." in "".join(pair.look(PARIS, [(0, 0)])["tokens"])


def test_lines_of_a_pipe_are_answered_as_ask_answers(
    folders: tuple[Path, Path], pair: BothModels
) -> None:
    result = chat(
        folders, f"{PARIS.question}\n\n  {MARKUP}\n/free Hello [/b]\n/quit\nNo?\n", "--json"
    )
    assert result.exit_code == 0, result.output
    first, second, third = map(json.loads, result.stdout.splitlines())
    assert first == {"question": PARIS.question} | pair.ask(PARIS)
    assert second == {"question": MARKUP} | pair.ask(BinaryExample(MARKUP, True))
    assert third == {"message": "Hello [/b]"} | pair.free("Hello [/b]")


def test_a_free_message_stands_alone_in_its_template(pair: BothModels) -> None:
    tokens = pair.session.builder().message("Hello")
    text = pair.session.tokenizer.decode(tokens)
    assert "<|im_start|>user\nHello<|im_end|>" in text
    assert "MUST" not in text
    answers = pair.free("Who wrote Hamlet?")
    assert list(answers) == ["untouched", "aligned"]
    assert answers["untouched"]["text"] != answers["aligned"]["text"]


def test_a_table_shows_markup_as_text(folders: tuple[Path, Path]) -> None:
    result = chat(folders, f"{MARKUP}\n/free {MARKUP}\n")
    assert result.exit_code == 0, result.output
    assert result.stdout.count(MARKUP) == 2
    assert "P(Yes)" in result.stdout
    assert result.stdout.count("aligned") == 2
    assert MARKUP in done("ask", folders[0], MARKUP, "--adapter", folders[1]).stdout


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("/free", "Type the message to answer after /free"),
        ("/help me", "There is no /help here"),
        ("word " * 600, "more than the model's context"),
    ],
)
def test_a_line_that_cannot_be_answered_stops_no_other(
    folders: tuple[Path, Path], line: str, sentence: str
) -> None:
    result = chat(folders, f"{line}\n{PARIS.question}\n", "--json")
    failed, answered = map(json.loads, result.stdout.splitlines())
    assert sentence in failed["error"]
    assert answered["question"] == PARIS.question
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_bytes_that_are_no_text_are_answered_too(folders: tuple[Path, Path]) -> None:
    result = chat(folders, b"Is \xff it?\n", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["question"] == "Is \N{REPLACEMENT CHARACTER} it?"


@pytest.mark.long
def test_what_is_typed_at_a_terminal_ends_with_control_d(folders: tuple[Path, Path]) -> None:
    pty = pytest.importorskip("pty", reason="this system has no pseudo terminals")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-P", "-m", "nasalign", "chat", str(folders[0])]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    os.close(theirs)
    try:
        os.write(ours, b"Is it?\n/nothing\n\x04")
        said, _ = process.communicate(timeout=120)
    finally:
        os.close(ours)
    assert process.returncode == 0, said
    assert "/quit or Ctrl-D ends" in said
    assert said.count("P(Yes)") == 1
    assert "There is no /nothing here" in said


def test_several_processes_are_refused(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nasalign.models.processes.count", lambda: 2)
    with pytest.raises(NasAlignError, match="One process is enough"):
        open_both(Job(model=str(folders[0])))
