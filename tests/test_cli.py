"""The command line: exit codes, one sentence for a user's mistake, help texts."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fault_tools import done, invoke, refused
from nasalign.commands.app import COMMANDS, load_command


@pytest.mark.parametrize(
    "command", ["align", "diagnose", "evaluate", "compare", "ask", "chat", "export"]
)
def test_every_command_explains_itself(command: str) -> None:
    assert "--json" in done(command, "--help").output


def test_version() -> None:
    assert done("--version").output.startswith("nasalign 0.")


def test_without_arguments_the_three_commands_that_one_needs_are_shown() -> None:
    shown = done().output
    named = re.findall(r"^  nasalign (\w+)", shown, re.M)
    assert named == ["diagnose", "align", "ask"]
    assert "nasalign --help" in shown
    assert "reproduce" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    for line in re.findall(r"^  nasalign (.+)$", shown, re.M):
        name, *words = shlex.split(line)
        load_command(name).make_context(name, words)  # raises for an option that is unknown


def test_existing_run_is_not_overwritten(saved: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    assert "give --overwrite" in refused(invoke("align", saved, "--out", run))
    (run / "run.json").unlink()
    (run / "thesis.tex").write_text("mine")
    assert "holds no run" in refused(invoke("align", saved, "--out", run, "--overwrite"))
    assert (run / "thesis.tex").read_text() == "mine"


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from nasalign.commands import app; app(['--help'], standalone_mode=False); "
        "sys.exit('torch' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-P", "-c", code], check=False, capture_output=True)
    assert ended.returncode == 0
    assert b"reproduce" in ended.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_says(name: str) -> None:
    found = load_command(name)
    assert found.name == name
    assert " ".join(found.help.partition("\n\n")[0].split()) == COMMANDS[name]


def test_a_model_that_cannot_be_loaded_leaves_no_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "holds no weights" in refused(invoke("align", folder, "--out", tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_an_empty_probing_set_is_said_and_the_run_can_be_overwritten(
    saved: Path, tmp_path: Path
) -> None:
    data = tmp_path / "questions.jsonl"
    data.write_text('{"question": "Is it?", "label": false}\n')
    for command in ("align", "align"):
        words = (command, saved, "--probing-data", data, "--out", tmp_path / "run", "--overwrite")
        words += ("--set", "direction=negative")
        assert "No labelled row has the answer Yes" in refused(invoke(*words))


MISTAKES = [
    ("align smollm3 --out RUN", "There is no model 'smollm3'"),
    ("align smollm3 --out RUN", "smollm2-135m"),
    ("diagnose MODEL --data BROKEN", "questions.jsonl, line 2 is not valid JSON"),
    ("evaluate MODEL --data hotpot", "nor one of facts, hotpotqa, strategyqa"),
    ("evaluate MODEL --data gone.jsonl", "Cannot read the data file"),
    ("evaluate MODEL --set rate=1", "There is no setting 'rate'"),
    ("evaluate MODEL --set epochs=many", "must be a valid integer"),
    ("ask MODEL LONG", "more than the model's context"),
    ("export EMPTY OUT", "There is no adapter"),
]


@pytest.mark.parametrize(("command", "sentence"), MISTAKES)
def test_a_mistake_is_one_sentence(
    command: str, sentence: str, saved: Path, tmp_path: Path
) -> None:
    broken, empty = tmp_path / "questions.jsonl", tmp_path / "empty"
    broken.write_text('{"question": "What?", "answer": "that"}\n{"question": "Who?"\n')
    empty.mkdir()
    (empty / "run.json").write_text("{}")
    names = {"MODEL": saved, "RUN": tmp_path / "run", "OUT": tmp_path / "out", "BROKEN": broken}
    names |= {"EMPTY": empty, "LONG": "word " * 5000}
    told = refused(invoke(*(names.get(word, word) for word in command.split())))
    assert sentence in told
    assert not {"run", "out"} & {path.name for path in tmp_path.iterdir()}


def test_ask_prints_both_probabilities(saved: Path) -> None:
    result = done("ask", saved, "Is Paris in France?", "--json")
    answer = json.loads(result.stdout)["untouched"]
    assert 0 < answer["p_yes"] + answer["p_no"] <= 1
    assert answer["verdict"] in ("positive", "negative")
    assert len(answer["heads"]) == 8
    assert "P(Yes)" in done("ask", saved, "Is Paris in France?").output
