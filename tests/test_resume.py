"""A run that is killed goes on with --resume, and ends with the same bytes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from cases import DENIES, case
from nasalign import alignment as pipeline
from nasalign.commands import app
from nasalign.nasa import probing, training

RUNNER = CliRunner()
SETTINGS = ("epochs=4", "n=5", "k=10", "learning_rate=1e-3", "bootstrap_samples=50")
SETTINGS += ("answer_tokens=6", "sides=both", "rho=-100", "halting_share=1.0")
SETTINGS += ("tuning_batch_size=4",)
FILES = ("adapter/adapter_model.safetensors", "adapter/adapter_config.json", "tuning.jsonl")
FILES += ("heads.json", "probing.jsonl", "parametric.jsonl", "nas.safetensors", "metrics.json")
FILES += ("side_effects.json", "attention.json")


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A run of a tiny model that denies what it says, of several heads and epochs."""
    model, data = case(tmp_path_factory.mktemp("case"), DENIES, questions=80)
    sets = [part for setting in SETTINGS for part in ("--set", setting)]
    return ["align", str(model), "--data", str(data), *sets]


@pytest.fixture(scope="module")
def whole(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    result = RUNNER.invoke(app, [*command, "--out", str(folder)])
    assert result.exit_code == 0, result.output
    return folder


def assert_equal(one: Path, other: Path) -> None:
    for name in FILES:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def heads(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "tuning.jsonl").read_text().splitlines()]
    return [row for row in rows if row["record"] == "head"]


class Stop(Exception):  # noqa: N818
    """Ends a run in the middle, as a kill does: nobody expects it."""


@pytest.mark.parametrize("error", [Stop, pytest.param(KeyboardInterrupt, marks=pytest.mark.long)])
@pytest.mark.parametrize("calls", [1, 4, 6, 9, 14])
def test_a_run_that_ends_in_any_epoch_goes_on(
    calls: int,
    error: type[BaseException],
    command: list[str],
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert len(heads(whole)) == 5
    real, count = training.RowTuner.train_epoch, 0

    def train_epoch(self: training.RowTuner) -> float:
        nonlocal count
        count += 1
        if count == calls:
            raise error
        return real(self)

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(training.RowTuner, "train_epoch", train_epoch)
        result = RUNNER.invoke(app, [*command, "--out", str(folder)])
        assert result.exit_code != 0
    assert not (folder / "metrics.json").exists()
    if error is KeyboardInterrupt:
        said = " ".join(result.output.split())
        assert "Go on with --resume" in said
        kept = sum(row["kept"] for row in heads(folder)) if calls > 5 else 0
        assert (folder / "adapter").is_dir() == (kept > 0)

    done: list[int] = []
    monkeypatch.setattr(training.RowTuner, "train_epoch", lambda self: done.append(1) or real(self))
    result = RUNNER.invoke(app, [*command, "--out", str(folder), "--resume"])
    assert result.exit_code == 0, result.output
    assert_equal(whole, folder)
    assert not (folder / "checkpoint").exists()
    epochs = sum(row["epochs"] for row in heads(whole))
    assert len(done) == epochs - (calls - 1)  # only the epoch that was cut off runs again


@pytest.mark.parametrize(("place", "stage"), [(probing, "probing_set"), (pipeline, "choose_heads")])
def test_the_facts_of_a_stage_are_kept_with_its_file(
    place: ModuleType,
    stage: str,
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*_: object) -> None:
        raise Stop

    told = []
    for name, ends in (("whole", False), ("run", True)):
        started = [*command, "--set", "direction=auto", "--out", str(tmp_path / name)]
        if ends:
            with monkeypatch.context() as patch:
                patch.setattr(place, stage, stop)
                assert RUNNER.invoke(app, started).exit_code != 0
        assert RUNNER.invoke(app, [*started, "--resume"]).exit_code == 0
        facts = json.loads((tmp_path / name / "run.json").read_text())
        told.append({key: facts[key] for key in facts.keys() - {"timings", "replay"}})
    assert {"judged", "direction", "probing"} < set(told[0])
    assert told[1] == told[0]


def test_a_complete_run_and_another_run_are_not_gone_on_with(
    command: list[str], whole: Path, tmp_path: Path
) -> None:
    result = RUNNER.invoke(app, [*command, "--out", str(whole), "--resume"])
    assert result.exit_code == 2
    assert "is complete; nothing is left to do" in " ".join(result.output.split())
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_bytes((whole / "run.json").read_bytes())
    result = RUNNER.invoke(app, [*command, "--out", str(folder), "--resume", "--set", "rho=0.3"])
    assert result.exit_code == 2
    assert "begun with another setting rho: -100.0, now 0.3" in " ".join(result.output.split())
    result = RUNNER.invoke(app, [*command, "--out", str(tmp_path / "new"), "--resume"])
    assert result.exit_code == 0  # there was nothing to go on with, so it begins
    assert_equal(whole, tmp_path / "new")


@pytest.mark.slow
@pytest.mark.parametrize("times", [2, pytest.param(10, marks=pytest.mark.long)])
def test_a_run_that_is_killed_some_times_ends_with_the_same_bytes(
    times: int, command: list[str], tmp_path: Path
) -> None:
    folder, whole = tmp_path / "run", tmp_path / "whole"
    start = [sys.executable, "-P", "-m", "nasalign", *command, "--out", str(folder), "--resume"]
    rng = random.Random(0)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # the same sums in the same order
    subprocess.run([*start[:-2], str(whole)], env=environment, check=True, capture_output=True)
    kills = attempts = 0
    while kills < times:
        attempts += 1
        assert attempts < 40
        if (folder / "metrics.json").exists():  # it was faster, or killed when all was done
            assert_equal(whole, folder)
            folder.rename(tmp_path / f"done{attempts}")
        process = subprocess.Popen(
            start, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert process.stdout is not None
        while (line := process.stdout.readline()) and b"LlamaForCausalLM" not in line:
            pass  # so that the kill meets it at work
        time.sleep(rng.uniform(0, 0.8))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        else:
            assert process.returncode == 0, process.stdout.read().decode()[-2000:]
    if not (folder / "metrics.json").exists():
        done = subprocess.run(start, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    assert_equal(whole, folder)
