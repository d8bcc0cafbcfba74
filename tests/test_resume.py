"""A run that is killed goes on with --resume, and ends with the same bytes."""

import json
import random
import signal
import time
from pathlib import Path

import pytest

from cases import DENIES, case, sets
from fault_tools import Stop, assert_same_run, done, invoke, python, refused, said, start_python
from nasalign import alignment as pipeline
from nasalign.head_rows.optimizer import RowOptimizer
from nasalign.nasa import head_tuning, training
from nasalign.nasa.algorithm import Limits

SETTINGS = ("epochs=4", "n=5", "k=10", "learning_rate=1e-3", "bootstrap_samples=50")
SETTINGS += ("answer_tokens=6", "sides=both", "rho=-100", "halting_share=1.0")
SETTINGS += ("tuning_batch_size=4",)


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A run of a tiny model that denies what it says, of several heads and epochs."""
    model, data = case(tmp_path_factory.mktemp("case"), DENIES, questions=80)
    return ["align", str(model), "--data", str(data), *sets(SETTINGS)]


@pytest.fixture(scope="module")
def whole(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    done(*command, "--out", folder)
    return folder


def heads(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "tuning.jsonl").read_text().splitlines()]
    return [row for row in rows if row["record"] == "head"]


@pytest.mark.parametrize("error", [Stop, pytest.param(KeyboardInterrupt, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "calls", [1, 14, *(pytest.param(call, marks=pytest.mark.long) for call in (4, 6, 9))]
)
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
        result = invoke(*command, "--out", folder)
        assert result.exit_code != 0
    assert not (folder / "metrics.json").exists()
    if error is KeyboardInterrupt:
        assert "Resume the run with --resume" in said(result)
        kept = sum(row["kept"] for row in heads(folder)) if calls > 5 else 0
        assert (folder / "adapter").is_dir() == (kept > 0)

    ran: list[int] = []
    monkeypatch.setattr(training.RowTuner, "train_epoch", lambda self: ran.append(1) or real(self))
    done(*command, "--out", folder, "--resume")
    assert_same_run(whole, folder)
    assert not (folder / "checkpoint").exists()
    epochs = sum(row["epochs"] for row in heads(whole))
    assert len(ran) == epochs - (calls - 1)  # only the epoch that was cut off runs again


FITTED = ("learning_rate=auto", "tuning_batch_size=8", "n=2", "epochs=2")
NEAR = lambda *_: Limits(2, rho=-100, tau=-1.5, halting_share=1.0, line_search=True)  # noqa: E731
"""The model NAS of the tiny model begins at -1.25, and its first epoch goes far below."""
COUNTED = {"step": RowOptimizer, "scale": training.RowTuner, "measure": training.RowTuner}


@pytest.fixture(scope="module")
def fitted(
    command: list[str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], Path, dict[str, int]]:
    """A run that finds its rate and shortens an epoch: its command, folder, and calls by name."""
    given, folder = [*command, *sets(FITTED)], tmp_path_factory.mktemp("fitted") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(head_tuning, "limits_of", NEAR)
        calls = {name: counted(patch, name) for name in COUNTED}
        done(*given, "--out", folder)
    assert any(row["scale"] < 1 for row in heads(folder))
    return given, folder, {name: len(made) for name, made in calls.items()}


def counted(patch: pytest.MonkeyPatch, name: str, stop: int = -1) -> list[int]:
    """Counts the calls of a method in a list, and ends the run at one of them."""
    real, made = getattr(COUNTED[name], name), []

    def call(self: object, *arguments: object) -> object:
        made.append(1)
        if len(made) == stop:
            raise Stop
        return real(self, *arguments)

    patch.setattr(COUNTED[name], name, call)
    return made


@pytest.mark.parametrize(("name", "call"), [("step", 2), ("scale", 2), ("measure", -2)])
def test_a_rate_that_is_found_and_an_epoch_that_is_shortened_end_with_the_same_bytes(
    name: str,
    call: int,
    fitted: tuple[list[str], Path, dict[str, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first calls are of the search for the rate, the last but one of the line search."""
    given, whole, calls = fitted
    monkeypatch.setattr(head_tuning, "limits_of", NEAR)
    with monkeypatch.context() as patch:
        counted(patch, name, call % calls[name])
        assert invoke(*given, "--out", tmp_path / "run").exit_code != 0
    done(*given, "--out", tmp_path / "run", "--resume")
    assert_same_run(whole, tmp_path / "run")
    found = [
        json.loads((folder / "run.json").read_text())["learning_rate"]
        for folder in (whole, tmp_path / "run")
    ]
    assert found[0] == found[1] == json.loads((whole / "learning_rate.json").read_text())


@pytest.mark.long
@pytest.mark.parametrize("stage", ["probing_set", "choose_heads"])
def test_the_facts_of_a_stage_are_kept_with_its_file(
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
                patch.setattr(pipeline, stage, stop)
                assert invoke(*started).exit_code != 0
        done(*started, "--resume")
        facts = json.loads((tmp_path / name / "run.json").read_text())
        told.append({key: facts[key] for key in facts.keys() - {"timings", "replay", "budget"}})
    assert {"judged", "direction", "probing"} < set(told[0])
    assert told[1] == told[0]


def test_a_complete_run_and_another_run_are_not_gone_on_with(
    command: list[str], whole: Path, tmp_path: Path
) -> None:
    told = refused(invoke(*command, "--out", whole, "--resume"))
    assert "is complete; nothing is left to do" in told
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_bytes((whole / "run.json").read_bytes())
    told = refused(invoke(*command, "--out", folder, "--resume", "--set", "rho=0.3"))
    assert "begun with another setting rho: -100.0, now 0.3" in told
    done(*command, "--out", tmp_path / "new", "--resume")  # there is none, so it begins
    assert_same_run(whole, tmp_path / "new")


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("times", [2, 10])
def test_a_run_that_is_killed_some_times_ends_with_the_same_bytes(
    times: int, command: list[str], tmp_path: Path
) -> None:
    folder, whole = tmp_path / "run", tmp_path / "whole"
    start = ["-m", "nasalign", *command, "--out", str(folder), "--resume"]
    rng = random.Random(0)
    assert python(*start[:-2], whole).returncode == 0
    kills = attempts = 0
    while kills < times:
        attempts += 1
        assert attempts < 40
        if (folder / "metrics.json").exists():  # it was faster, or killed when all was done
            assert_same_run(whole, folder)
            folder.rename(tmp_path / f"done{attempts}")
        process = start_python(*start)
        assert process.stdout is not None
        while (line := process.stdout.readline()) and "LlamaForCausalLM" not in line:
            pass  # so that the kill meets it at work
        time.sleep(rng.uniform(0, 0.8))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        else:
            assert process.returncode == 0, process.stdout.read()[-2000:]
    if not (folder / "metrics.json").exists():
        last = python(*start)
        assert last.returncode == 0, last.stderr[-2000:]
    assert_same_run(whole, folder)
