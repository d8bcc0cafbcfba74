"""Rows of a comparison that several processes measure at once."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

import jobs
from cases import DENIES, case
from jobs import QUICK
from nasalign.commands import row_workers
from nasalign.commands.compare import compare_job
from nasalign.commands.job import Job
from nasalign.commands.options import LoadOptions
from nasalign.commands.row_workers import MEMORY, workers_for
from nasalign.config import Settings
from nasalign.errors import NasAlignError

ROWS = ["untouched", "wording-a", "threshold", "nasa"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny model that denies what it says, and questions to it."""
    return case(tmp_path_factory.mktemp("world"), DENIES, questions=80)


def job_of(world: tuple[Path, Path], folder: Path | None) -> Any:
    return jobs.make(*world, folder=folder, changes=QUICK, command="compare")


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    """The processes that measure rows for one."""
    return [one for one in process.children() if "spawn_main" in " ".join(one.cmdline())]


def same(mine: Any, theirs: Any) -> None:
    """Checks that nested values are equal up to rounding: sums differ with the threads."""
    assert type(mine) is type(theirs)
    if isinstance(mine, dict):
        assert mine.keys() == theirs.keys()
        same(list(mine.values()), list(theirs.values()))
    elif isinstance(mine, list):
        for one, other in zip(mine, theirs, strict=True):
            same(one, other)
    else:
        assert mine == (pytest.approx(theirs, rel=1e-4) if isinstance(mine, float) else theirs)


def test_the_rows_are_those_of_one_process(world: tuple[Path, Path], tmp_path: Path) -> None:
    said: list[str] = []
    job = job_of(world, tmp_path / "two")
    job.run.reporter.say = said.append  # type: ignore[method-assign]
    two = compare_job(job, ROWS, workers=2)
    one = compare_job(job_of(world, tmp_path / "one"), ROWS)
    assert [row["name"] for row in two["rows"]] == ROWS
    for mine, theirs in zip(two["rows"], one["rows"], strict=True):
        assert mine.pop("cost").keys() == theirs.pop("cost").keys()
        same(mine, theirs)
    for name in ROWS:
        path = f"eval/questions.{name}.jsonl"
        answers = [(tmp_path / run / path).read_text() for run in ("one", "two")]
        rows = [[json.loads(line) for line in text.splitlines()] for text in answers]
        same(*rows)
    assert "2 rows are measured at once, each by a process of its own." in said
    assert any(text.startswith("[nasa] ") for text in said)
    assert not workers_of(psutil.Process())
    again = jobs.again(job, tmp_path / "two", resume=True)
    kept = {one["name"]: one for one in compare_job(again, ["wording-b"], workers=2)["rows"]}
    assert list(kept) == ["untouched", "wording-a", "wording-b", "threshold", "nasa"]
    costs = json.loads((tmp_path / "two" / "compare" / "nasa.json").read_text())["cost"]
    assert kept["nasa"]["cost"] == costs


def _killed(_: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_is_told(
    world: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_workers, "_measure", _killed)
    with pytest.raises(NasAlignError, match="--workers 1 and --resume"):
        compare_job(job_of(world, tmp_path / "run"), ROWS, workers=2)
    assert (tmp_path / "run" / "compare" / "untouched.json").exists()
    assert not workers_of(psutil.Process())


def test_processes_end_with_the_first(world: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = world
    command = [sys.executable, "-P", "-m", "nasalign", "compare", str(model)]
    command += ["--data", str(data), "--out", str(tmp_path / "run"), "--workers", "2"]
    begun = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children: list[psutil.Process] = []
    deadline = time.monotonic() + 120
    while len(children) < 2 and begun.poll() is None and time.monotonic() < deadline:
        children = workers_of(psutil.Process(begun.pid))
        time.sleep(0.05)
    begun.kill()
    begun.wait()
    assert len(children) == 2
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive


class _Measure:
    """What ``workers_for`` looks at."""

    def __init__(self, device: str = "cpu", **settings: Any) -> None:
        self.session = self
        self.model = torch.nn.Linear(1000, 1000, device=device)
        self.settings = Settings().replace(settings)


@pytest.mark.parametrize(
    ("rows", "threads", "free", "expected"),
    [
        (10, 4, 1000 * MEMORY, 4),
        (3, 4, 1000 * MEMORY, 3),
        (10, 1, 1000 * MEMORY, 1),
        (10, 4, 2 * MEMORY + 30_000_000, 2),
        (10, 4, MEMORY, 1),
    ],
)
def test_as_many_as_cores_and_memory_hold(
    rows: int, threads: int, free: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("", (), {"available": free}))
    assert workers_for(Job(), _Measure(), rows) == expected


def test_one_where_a_device_or_calls_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    job = Job()
    assert workers_for(job, _Measure(), 5) > 1
    assert workers_for(job, _Measure("meta"), 5) == 1
    assert workers_for(job, _Measure(judge="openai:gpt-4"), 5) == 1
    assert workers_for(job, _Measure(generator="openai:gpt-4"), 5) == 1
    assert workers_for(Job(load=LoadOptions(quantize="8bit")), _Measure(), 5) == 1
