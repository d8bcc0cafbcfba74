"""SIGTERM ends as Ctrl-C does, SIGKILL at once; either way the run goes on and ends the same."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from fault_tools import assert_same_run, invoke, refused
from nasalign import files, pipeline
from nasalign.alignment import training
from nasalign.errors import Terminated


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
    assert "Go on with --resume" in sentence
    assert handlers == [signal.SIG_IGN]  # a second one does not cut the end short
    assert signal.getsignal(signal.SIGTERM) is before
    assert (tmp_path / "run" / "checkpoint" / "kept.safetensors").exists()
    assert not (tmp_path / "run" / ".lock").exists()
    assert invoke(*command, "--out", tmp_path / "run", "--resume").exit_code == 0
    assert_same_run(undisturbed, tmp_path / "run")


def test_what_puts_rows_back_after_ctrl_c_does_so_after_sigterm() -> None:
    assert issubclass(Terminated, KeyboardInterrupt)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_sigkill_while_a_file_is_written_leaves_the_old_one(
    command: list[str], undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first writing of three files, when the new one is there by its other name."""
    folder, met = tmp_path / "run", []
    to_disk = files._to_disk

    def kill(path: Path) -> None:
        if any(name in str(path) for name in (".kept.saf", ".probing.jsonl", ".run.json")):
            name = path.name.split(".")[1]
            if not (tmp_path / name).exists():
                (tmp_path / name).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        to_disk(path)

    monkeypatch.setattr(files, "_to_disk", kill)
    while True:
        child = os.fork()
        if child == 0:
            os._exit(invoke(*command, "--out", folder, "--resume").exit_code)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            break
        met.append(os.WTERMSIG(status))
        assert len(list(folder.rglob("*.partial"))) == 1  # what it was at
        assert (folder / ".lock").exists()
    assert os.WEXITSTATUS(status) == 0
    assert met == [signal.SIGKILL] * 3
    assert list(folder.rglob("*.partial")) == []
    assert_same_run(undisturbed, folder)
