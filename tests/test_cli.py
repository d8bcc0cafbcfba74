"""The command line: exit codes, one sentence for a user's mistake, help texts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tiny
from nasalign.commands import app
from nasalign.commands.app import COMMANDS, load_command

RUNNER = CliRunner()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    tiny.build_model("llama").save_pretrained(folder)
    tiny.build_tokenizer().save_pretrained(folder)
    return folder


def refused(*arguments: object) -> str:
    """Runs a command that must fail, and returns its one sentence."""
    result = RUNNER.invoke(app, [*map(str, arguments)])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.stderr.split())


@pytest.mark.parametrize(
    "command", ["align", "diagnose", "evaluate", "compare", "ask", "chat", "export"]
)
def test_every_command_explains_itself(command: str) -> None:
    result = RUNNER.invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "--json" in result.output


def test_version() -> None:
    result = RUNNER.invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.output.startswith("nasalign 0.")


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from nasalign.commands import app; app(['--help'], standalone_mode=False); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], check=False, capture_output=True)
    assert done.returncode == 0
    assert b"reproduce" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_says(name: str) -> None:
    found = load_command(name)
    assert found.name == name
    assert " ".join(found.help.partition("\n\n")[0].split()) == COMMANDS[name]


def test_unknown_model(tmp_path: Path) -> None:
    said = refused("align", "smollm3", "--out", tmp_path / "run")
    assert "There is no model 'smollm3'" in said
    assert "smollm2-135m" in said


def test_model_folder_without_weights(model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").unlink()
    assert "holds no weights" in refused("evaluate", model)


def test_existing_run_is_not_overwritten(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    assert "give --overwrite" in refused("align", model, "--out", folder)
    (folder / "run.json").unlink()
    (folder / "thesis.tex").write_text("mine")
    assert "holds no run" in refused("align", model, "--out", folder, "--overwrite")
    assert (folder / "thesis.tex").read_text() == "mine"


def test_a_model_that_cannot_be_loaded_leaves_no_folder(model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").unlink()
    refused("align", model, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_that_failed_can_be_overwritten(model: Path, tmp_path: Path) -> None:
    data = tmp_path / "questions.jsonl"
    data.write_text('{"question": "Is it?", "label": true}\n')
    command = ("align", model, "--probing-data", data, "--out", tmp_path / "run")
    for _ in range(2):
        assert "The probing set is empty" in refused(*command, "--overwrite")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"question": "Who?"', "line 2 is not valid JSON"),
        ('{"question": "Who?"}', "line 2 has no text in 'answer'"),
        ('{"answer": "me"}', "line 2 has no text in 'question'"),
    ],
)
def test_broken_row_is_named(model: Path, tmp_path: Path, line: str, reason: str) -> None:
    data = tmp_path / "questions.jsonl"
    data.write_text('{"question": "What?", "answer": "that"}\n' + line + "\n")
    assert f"{data}, {reason}" in refused("diagnose", model, "--data", data).replace("\n", "")


def test_empty_probing_set(model: Path, tmp_path: Path) -> None:
    data = tmp_path / "questions.jsonl"
    data.write_text('{"question": "Is it?", "label": true}\n')
    assert "The probing set is empty" in refused("diagnose", model, "--probing-data", data)


def test_data_that_is_not_there(model: Path) -> None:
    assert "neither a file nor one of facts, hotpotqa, strategyqa" in refused(
        "evaluate", model, "--data", "hotpot"
    )
    assert "Cannot read the data file" in refused("evaluate", model, "--data", "gone.jsonl")


def test_unknown_setting_and_wrong_type(model: Path) -> None:
    assert "There is no setting 'rate'" in refused("evaluate", model, "--set", "rate=1")
    assert "takes int" in refused("evaluate", model, "--set", "epochs=many")


def test_prompt_longer_than_the_context(model: Path) -> None:
    said = refused("ask", model, "Is it?", "--context", "word " * 5000)
    assert "more than the model's context" in said


def test_ask_prints_both_probabilities(model: Path) -> None:
    result = RUNNER.invoke(app, ["ask", str(model), "Is Paris in France?", "--json"])
    answer = json.loads(result.stdout)["untouched"]
    assert 0 < answer["p_yes"] + answer["p_no"] <= 1
    assert answer["verdict"] in ("positive", "negative")
    assert len(answer["heads"]) == 8
    shown = RUNNER.invoke(app, ["ask", str(model), "Is Paris in France?"])
    assert "P(Yes)" in shown.output


def test_a_run_without_an_adapter_is_not_exported(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    assert "There is no adapter" in refused("export", tmp_path, tmp_path / "out")
