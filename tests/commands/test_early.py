"""Simple mistakes are told before torch is imported, with the nearest name that there is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fault_tools import invoke, refused
from nasalign.commands.app import COMMANDS, load_command, resuming_command
from nasalign.commands.early import FLAGS, MODEL_FIRST, check_early
from nasalign.commands.help import EXAMPLES, PANELS
from nasalign.errors import NasAlignError

MISTAKES = [
    ("align smollm2-135 --out RUN", "There is no model 'smollm2-135'", "'smollm2-135m'"),
    ("align smollm2-135m --data question.jsonl", "Cannot read the data file", "'questions.jsonl'"),
    ("align smollm2-135m --data factss", "There is no data 'factss'", "'facts'"),
    ("evaluate smollm2-135m --eval=hotpotq", "There is no data 'hotpotq'", "'hotpotqa'"),
    ("align smollm2-135m --set epoch=3", "There is no setting 'epoch'", "'epochs'"),
    ("ask tiny.ggu Why?", "There is no model 'tiny.ggu'", "'tiny.gguf'"),
    ("ask smollm2-135m Why? --adapter gone", "There is no adapter: gone is not there", ""),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "questions.jsonl").write_text("{}")
    (tmp_path / "tiny.gguf").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("line", "says", "meant"), MISTAKES)
def test_a_mistake_names_what_was_meant(line: str, says: str, meant: str, here: Path) -> None:
    command, *words = line.split()
    with pytest.raises(NasAlignError) as refusal:
        check_early(command, words)
    assert says in str(refusal.value)
    assert not meant or f"Did you mean {meant}?" in str(refusal.value)


def test_a_mistake_imports_no_torch_and_exits_with_2(here: Path) -> None:
    code = (
        "import sys; from nasalign.commands import app\n"
        "try: app(sys.argv[1:], standalone_mode=False)\n"
        "finally: print('torch' in sys.modules)"
    )
    for line, says, _ in MISTAKES[:2]:
        words = [sys.executable, "-P", "-c", code, *line.split()]
        ended = subprocess.run(words, capture_output=True, text=True, check=True)
        assert ended.stdout.split()[0] == "False"
        assert says in ended.stderr
    assert "Did you mean" in refused(invoke("align", "smollm2-135"))


@pytest.mark.parametrize(
    "line",
    [
        "align smollm2-135m --data questions.jsonl --set epochs=3 --set learning_rate=auto",
        "align OWNER/NAME --data OWNER/DATA --json --resume --out gone",
        "ask --json smollm2-135m --words Ja/Nein Why?",
        "align --help nosuchmodel",
        "report gone",
        "data gone.jsonl",
    ],
)
def test_what_may_be_right_is_left_to_the_command(line: str, here: Path) -> None:
    command, *words = line.split()
    check_early(command, words)


@pytest.mark.parametrize("name", MODEL_FIRST)
def test_the_flags_are_those_of_the_commands(name: str) -> None:
    command = load_command(name)
    flags = {word for one in command.params if getattr(one, "is_flag", 0) for word in one.opts}
    assert flags <= set(FLAGS)
    assert next(one.name for one in command.params if one.param_type_name == "argument") == "model"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_panels_no_type_of_flags_and_two_examples(name: str) -> None:
    command = load_command(name)
    options = [one for one in command.params if one.param_type_name == "option"]
    order = [PANELS.index(one.rich_help_panel) for one in options]
    assert order == sorted(order)
    assert all(one.metavar == "" for one in options if one.is_flag)
    assert len(EXAMPLES[name]) == 2
    for line in EXAMPLES[name]:
        _, first, *words = line.partition(" < ")[0].split()
        assert first == name
        assert line in command.epilog
        context = command.make_context(
            name, [word.strip('"') for word in words], resilient_parsing=True
        )
        assert not [word for word in context.args if word.startswith("-")]


def test_the_command_to_resume_is_exact() -> None:
    words = ["align", "my model", "--out", "runs/a", "--overwrite", "--set", "epochs=3"]
    again = "nasalign align 'my model' --out runs/a --set epochs=3 --resume"
    assert resuming_command(words) == again
    assert resuming_command(again.replace("'my model'", "m").split()[1:]).count("--resume") == 1
    assert resuming_command(["reproduce", "all"]) == "nasalign reproduce all"


def test_libraries_draw_no_bars() -> None:
    load_command("report")
    assert os.environ["TQDM_DISABLE"] == "1"
