"""Simple mistakes are told before torch is imported, with the nearest name that there is."""

import json
import os
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest

from fault_tools import invoke, refused
from nasalign.commands.app import COMMANDS, load_command, resuming_command
from nasalign.commands.early import DTYPES, FLAGS, MODEL_FIRST, ROWS, check_early
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
    ("ask smollm2-135m Why? --adapter foreign", "as a LoRA of 'OWNER/BASE'", ""),
    ("align smollm2-135m --data unclear.csv", "there is no column question", ""),
    ("align smollm2-135m --data clear.csv --columns question=clam", "it lacks question=clam", ""),
    ("compare smollm2-135m --only thresold", "There is no row 'thresold'", "'threshold'"),
    ("compare smollm2-135m --only nasa,nassa", "There is no row 'nassa'", "'nasa'"),
    ("evaluate smollm2-135m --scenario contex", "scenario is 'contex'", "'context'"),
    ("align smollm2-135m --set method=nas", "method is 'nas'", "'nasa'"),
    ("align smollm2-135m --judge macth", "match, self or openai:MODEL", ""),
    ("align smollm2-135m --dtype bfloat", "There is no dtype 'bfloat'", "'bfloat16'"),
    ("report rn", "rn is no run directory", "'run'"),
    ("data question.jsonl", "Cannot read the data file", "'questions.jsonl'"),
]


def write_adapter_files(folder: Path, metadata: dict[str, str]) -> None:
    """Writes what an adapter of PEFT consists of, its tensors apart."""
    header = json.dumps({"__metadata__": {"format": "pt"} | metadata}).encode()
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "OWNER/BASE"}')
    weights = len(header).to_bytes(8, "little") + header
    (folder / "adapter_model.safetensors").write_bytes(weights)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "questions.jsonl").write_text('{"question": "Why?", "answer": "So."}\n')
    (tmp_path / "unclear.csv").write_text("claim,verdict\nIs it?,Yes\n")
    (tmp_path / "clear.csv").write_text("claim,label\nIs it?,Yes\nIs it not?,No\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    write_adapter_files(tmp_path / "ours", {"nasalign": "{}"})
    write_adapter_files(tmp_path / "foreign", {})
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


SLOW = 2.0
"""How many times the time of ``nasalign --help`` a refusal may take."""


def cpu_seconds(line: str, here: Path) -> float:
    """What a command takes of a processor in a process of its own.

    The time on the clock says little on a busy machine.
    """
    code = "from nasalign.commands import app; app()"
    words = [sys.executable, "-P", "-c", code, *line.split()]
    process = subprocess.Popen(
        words, cwd=here, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == (0 if line == "--help" else 2), line
    return used.ru_utime + used.ru_stime


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="the time of one process is not told here")
def test_a_mistake_takes_at_most_twice_as_long_as_help(here: Path) -> None:
    usual = min(cpu_seconds("--help", here) for _ in range(3))
    slow = {}
    for line, _, _ in MISTAKES:
        tries = (cpu_seconds(line, here) / usual for _ in range(3))  # no more than it takes
        least = list(takewhile(lambda ratio: ratio > SLOW, tries))
        if len(least) == 3:
            slow[line] = min(least)
    assert slow == {}


def test_the_closed_lists_are_those_of_the_commands() -> None:
    from nasalign.commands.compare import NAMES
    from nasalign.models import loading

    assert ROWS == NAMES
    assert set(DTYPES) == set(loading.DTYPES)


@pytest.mark.parametrize(
    "line",
    [
        "align smollm2-135m --data questions.jsonl --set epochs=3 --set learning_rate=auto",
        "align OWNER/NAME --data OWNER/DATA --json --resume --out gone",
        "ask --json smollm2-135m --words Ja/Nein Why?",
        "align --help nosuchmodel",
        "report run",
        "data questions.jsonl",
        "align smollm2-135m --data unclear.csv --template prompt.txt",
        "ask smollm2-135m Why? --adapter ours",
        "compare smollm2-135m --only nasa,nasa+ --dtype bfloat16",
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
    assert "<bool>" not in invoke(name, "--help").output
    assert len(EXAMPLES[name]) == 2
    for line in EXAMPLES[name]:
        _, first, *words = line.partition(" < ")[0].split()
        assert first == name
        assert line in command.epilog
        context = command.make_context(
            name, [word.strip('"') for word in words], resilient_parsing=True
        )
        assert not [word for word in context.args if word.startswith("-")]


def test_flags_of_all_commands_have_no_type() -> None:
    shown = invoke("--help").output
    assert "--version" in shown
    assert "--help" in shown
    assert "<bool>" not in shown


def test_the_command_to_resume_is_exact() -> None:
    words = ["align", "my model", "--out", "runs/a", "--overwrite", "--set", "epochs=3"]
    again = "nasalign align 'my model' --out runs/a --set epochs=3 --resume"
    assert resuming_command(words) == again
    assert resuming_command(again.replace("'my model'", "m").split()[1:]).count("--resume") == 1
    assert resuming_command(["reproduce", "all"]) == "nasalign reproduce all"


def test_libraries_draw_no_bars() -> None:
    load_command("report")
    assert os.environ["TQDM_DISABLE"] == "1"
