"""Tracking: what is logged, only where it is asked for, and what is said without the package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import jobs
from cases import DENIES, case
from fault_tools import invoke
from nasalign.commands.align import align_job
from nasalign.commands.compare import compare_job
from nasalign.commands.early import check_early
from nasalign.errors import NasAlignError
from nasalign.io.files import read_jsonl
from nasalign.nasa.decisions import EpochRecord
from nasalign.nasa_plus.joint_pairs import JointRecord
from nasalign.tracking import Tracker, tracked_figures, tracking

FAKE = """
import json, os
class Image:
    def __init__(self, path):
        with open(path, "rb") as file: self.head = file.read(8)
def _write(kind, what):
    with open(os.environ["TRACKED"], "a") as file:
        file.write(json.dumps([kind, what]) + chr(10))
def init(**given):
    if os.environ.get("NO_KEY"): raise RuntimeError("no key" + chr(10) + "more")
    print("begun")
    _write("init", given)
def log(figures):
    _write("log", {name: repr(one.head) if isinstance(one, Image) else one
                   for name, one in figures.items()})
def finish():
    _write("finish", None)
"""


@pytest.fixture
def tracked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package in the place of trackio; the file of what it is told is returned."""
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "trackio.py").write_text(FAKE)
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    monkeypatch.delitem(sys.modules, "trackio", raising=False)
    monkeypatch.setenv("TRACKED", str(tmp_path / "tracked.jsonl"))
    yield tmp_path / "tracked.jsonl"
    sys.modules.pop("trackio", None)


def told(path: Path) -> list[tuple[str, object]]:
    return [tuple(json.loads(line)) for line in path.read_text().splitlines()]


def test_tracked_figures_records() -> None:
    epoch = EpochRecord(2, 3, 1, 0.5, 7.0, 9.0, 0.25)
    assert tracked_figures(epoch) == {
        "epoch/layer": 2,
        "epoch/head": 3,
        "epoch/epoch": 1,
        "epoch/loss": 0.5,
        "epoch/head NAS": 7.0,
        "epoch/model NAS": 9.0,
        "epoch/share of Yes": 0.25,
    }
    shares = [{"known": share} for share in (0.5, 0.6, 0.1)]
    joint = JointRecord(0, float("nan"), 3e-3, 1.0, *shares, kept=True)
    found = tracked_figures(joint)
    assert found["joint/accuracy/known"] == 0.5
    assert found["joint/AUC/known"] == 0.6
    assert found["joint/share of Yes/known"] == 0.1


def test_what_is_not_a_finite_number_is_not_logged(tracked: Path) -> None:
    with tracking("trackio", "run", {"seed": 1}, print) as tracker:
        tracker.log({"a": 1.0, "b": float("nan"), "c": None, "d": [1], "e": True})
        tracker.log({"b": float("inf")})
    assert told(tracked) == [
        ("init", {"project": "nasalign", "name": "run", "config": {"seed": 1}}),
        ("log", {"a": 1.0, "e": True}),
        ("finish", None),
    ]


def test_the_run_is_ended_after_an_error_too(tracked: Path) -> None:
    with pytest.raises(KeyboardInterrupt), tracking("trackio", "run", {}, print):
        raise KeyboardInterrupt
    assert told(tracked)[-1] == ("finish", None)


def test_standard_output_is_left_to_json(tracked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tracking("trackio", "run", {}, print):
        pass
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "begun" in captured.err


def test_a_package_that_cannot_begin_is_one_sentence(
    tracked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_KEY", "1")
    with (
        pytest.raises(NasAlignError, match=r"^trackio cannot begin a run: no key$"),
        tracking("trackio", "run", {}, print),
    ):
        raise AssertionError


def test_without_the_option_nothing_is_imported(tracked: Path) -> None:
    with tracking(None, "run", {}, print) as tracker:
        tracker.results({"facts": {"before": {"accuracy": 1.0}}}, None)
        tracker.log({"a": 1.0})
    assert "trackio" not in sys.modules
    assert not tracked.exists()


def test_a_missing_package_is_said_before_torch_is_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if find_spec("wandb"):
        pytest.skip("wandb is installed")
    with pytest.raises(NasAlignError, match="pip install wandb"):
        check_early("align", ["smollm2-135m", "--track", "wandb"])
    code = "import sys; from nasalign.commands import app; app(sys.argv[1:])"
    words = ["align", "smollm2-135m", "--track=wandb", "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-P", "-X", "importtime", "-c", code, *words],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "--track wandb needs the package wandb: pip install wandb." in done.stderr
    assert "| torch" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_another_package_is_refused() -> None:
    said = invoke("align", "smollm2-135m", "--track", "mlflow")
    assert said.exit_code == 2
    assert "trackio" in said.output + said.stderr


def test_align_is_tracked(tracked: Path, tmp_path: Path) -> None:
    model, data = case(tmp_path, DENIES, questions=80)
    job = jobs.make(model, data, folder=tmp_path / "run", changes=jobs.QUICK)
    result = align_job(job, "trackio")
    kinds = [kind for kind, _ in told(tracked)]
    assert kinds[0] == "init"
    assert kinds[-1] == "finish"
    assert kinds.count("init") == kinds.count("finish") == 1
    logged = [what for kind, what in told(tracked) if kind == "log"]
    assert all(isinstance(one, dict) for one in logged)
    rows = read_jsonl(tmp_path / "run" / "tuning.jsonl")
    losses = [row["loss"] for row in rows if row["record"] == "epoch"]
    assert [one["epoch/loss"] for one in logged if "epoch/loss" in one] == losses
    ((name, sides),) = result["datasets"].items()
    final = next(one for one in logged if f"after/{name}/accuracy" in one)
    for side in ("before", "after"):
        assert final[f"{side}/{name}/accuracy"] == sides[side]["accuracy"]
    charts = {name: one for figures in logged for name, one in figures.items() if "charts/" in name}
    if find_spec("altair"):
        assert "charts/heads" in charts
        assert set(charts.values()) == {repr(b"\x89PNG\r\n\x1a\n")}


def test_compare_is_tracked(tracked: Path, tmp_path: Path) -> None:
    model, data = case(tmp_path, DENIES, questions=80)
    job = jobs.make(model, data, folder=tmp_path / "run", changes=jobs.QUICK, command="compare")
    result = compare_job(job, ["threshold"], "trackio")
    logged = [what for kind, what in told(tracked) if kind == "log"]
    ((name, _),) = result["datasets"].items()
    for row in result["rows"]:
        figures = next(one for one in logged if f"{row['name']}/{name}/accuracy" in one)
        expected = row["datasets"][name]["figures"]["accuracy"][0]
        assert figures[f"{row['name']}/{name}/accuracy"] == expected
        assert f"{row['name']}/seconds_to_fit" in figures
    if find_spec("altair"):
        assert any("charts/" in title for one in logged for title in one)


def ran(code: str, **environment: str) -> str:
    """What a program writes, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
def test_trackio_itself_keeps_the_figures(tmp_path: Path) -> None:
    pytest.importorskip("trackio", reason="trackio is not installed")
    code = (
        "from nasalign.tracking import tracking\n"
        "with tracking('trackio', 'mine', {'seed': 1}, print) as tracker:\n"
        "    tracker.log({'epoch/loss': 0.5})\n"
        "    tracker.log({'epoch/loss': 0.25})\n"
        "import trackio\n"
        "run = trackio.Api().runs('nasalign')[0]\n"
        "print(run.name)\n"
    )
    assert ran(code, TRACKIO_DIR=str(tmp_path)).strip() == "mine"
    assert list(tmp_path.rglob("*.db"))


@pytest.mark.long
def test_wandb_itself_keeps_the_figures_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    code = (
        "from nasalign.tracking import tracking\n"
        "with tracking('wandb', 'mine', {'seed': 1}, print) as tracker:\n"
        "    tracker.log({'epoch/loss': 0.5})\n"
    )
    ran(code, WANDB_MODE="offline", WANDB_DIR=str(tmp_path))
    assert list(tmp_path.rglob("*.wandb"))


def test_a_tracker_without_a_package_does_nothing() -> None:
    seen = []
    watch = Tracker().watching(lambda record: seen.append(record) or True)
    assert watch(EpochRecord(0, 0, 1, 0.1, 0.1, 0.1, 0.1)) is True
    assert len(seen) == 1
