"""SIGTERM ends as Ctrl-C does, SIGKILL at once; either way the run goes on and ends the same."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from fault_tools import assert_same_run, invoke, python, refused
from nasalign import alignment as pipeline
from nasalign.errors import Terminated
from nasalign.nasa import training


def test_sigterm_in_an_epoch_puts_the_rows_back_and_keeps_the_checkpoint(
    command: list[str], undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count, before = training.RowTuner.train_epoch, 0, signal.getsignal(signal.SIGTERM)
    handlers: list[object] = []

    def train_epoch(self: training.RowTuner) -> float:
        nonlocal count
        count += 1
        if count == 4:  # of the second head
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self)

    def kept(*arguments: object) -> None:
        handlers.append(signal.getsignal(signal.SIGTERM))
        keep(*arguments)  # type: ignore[arg-type]

    keep = pipeline._keep_partial
    with monkeypatch.context() as patch:
        patch.setattr(training.RowTuner, "train_epoch", train_epoch)
        patch.setattr(pipeline, "_keep_partial", kept)
        sentence = refused(invoke(*command, "--out", tmp_path / "run"), 143)
    assert "Stopped by SIGTERM" in sentence
    assert "Resume the run with --resume" in sentence
    assert handlers == [signal.SIG_IGN]  # a second one does not cut the end short
    assert signal.getsignal(signal.SIGTERM) is before
    assert (tmp_path / "run" / "checkpoint" / "kept.safetensors").exists()
    assert not (tmp_path / "run" / ".lock").exists()
    assert invoke(*command, "--out", tmp_path / "run", "--resume").exit_code == 0
    assert_same_run(undisturbed, tmp_path / "run")


def test_what_puts_rows_back_after_ctrl_c_does_so_after_sigterm() -> None:
    assert issubclass(Terminated, KeyboardInterrupt)


KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
import nasalign.commands.align  # once, before the forks
from nasalign.io import storage
from nasalign.commands import app

folder, to_disk = Path(sys.argv[1]), storage._to_disk

def kill(path):  # the new file is there by its other name
    name = path.stem
    mark = folder.parent / f"killed-{name}"
    if name in ("kept", "probing", "run") and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    to_disk(path)

storage._to_disk = kill
status = signal.SIGKILL
while status == signal.SIGKILL:
    if not (child := os.fork()):
        app([*sys.argv[2:], "--out", str(folder), "--resume"])
    _, status = os.waitpid(child, 0)
    print("status", status, len(list(folder.rglob("*.partial"))), (folder / ".lock").exists())
"""


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_sigkill_while_a_file_is_written_leaves_the_old_one(
    command: list[str], undisturbed: Path, tmp_path: Path
) -> None:
    """At the first writing of three files."""
    folder = tmp_path / "run"
    done = python("-c", KILLED_WHILE_WRITING, folder, *command)
    told = [line for line in done.stdout.splitlines() if line.startswith("status")]
    assert told == [*["status 9 1 True"] * 3, "status 0 0 False"], done.stderr[-2000:]
    assert_same_run(undisturbed, folder)
