"""Two runs never write to one folder."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fault_tools import invoke, refused
from nasalign.errors import StorageError
from nasalign.io.files import write_json
from nasalign.io.locks import LOCK, one_run_in

HOLDER = """
import sys
from pathlib import Path
from nasalign.io.locks import one_run_in
with one_run_in(Path(sys.argv[1]), print):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that is at work in a folder."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-P", "-c", HOLDER, str(folder)], stdin=pipe, stdout=pipe, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None:
            process.communicate()


def test_every_command_that_writes_is_refused_while_another_runs(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    write_json(folder / "run.json", {"versions": {"nasalign": "0.1.0"}})
    commands = {name: [name, "x/y", "--overwrite"] for name in ("align", "diagnose", "evaluate")}
    commands["compare"] = ["compare", "x/y", "--resume"]
    commands["scenarios"] = ["evaluate", "x/y", "--overwrite", "--scenario", "plain"]
    commands["reproduce"] = ["reproduce", "table-1", "--model", "x/y"]
    with holder(folder) as process:
        for arguments in commands.values():
            sentence = refused(invoke(*arguments, "--out", folder))
            assert f"Another run is at work in {folder}" in sentence
            assert f"process {process.pid} on {platform.node()}" in sentence
        assert sorted(path.name for path in folder.iterdir()) == [LOCK, "run.json"]
    assert [path.name for path in folder.iterdir()] == ["run.json"]


def test_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with holder(folder) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (folder / LOCK).exists()
    warnings: list[str] = []
    with one_run_in(folder, warnings.append):
        assert (folder / LOCK).read_text() == f"process {os.getpid()} on {platform.node()}"
    assert not (folder / LOCK).exists()
    assert warnings == []


def test_what_a_lock_made_is_gone_with_it(tmp_path: Path) -> None:
    with one_run_in(tmp_path / "runs" / "mine", print):
        assert (tmp_path / "runs" / "mine" / LOCK).exists()
    assert list(tmp_path.iterdir()) == []
    with one_run_in(tmp_path / "runs" / "mine", print):
        (tmp_path / "runs" / "mine" / "file").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["runs", "mine", "file"]


def test_the_next_in_the_same_process_waits_for_no_one(tmp_path: Path) -> None:
    with one_run_in(tmp_path, print), pytest.raises(StorageError, match="Another run is at work"):
        one_run_in(tmp_path, print).__enter__()
    with one_run_in(tmp_path, print):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_it_warns_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def flock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    warnings: list[str] = []
    with one_run_in(tmp_path / "run", warnings.append):
        (tmp_path / "run" / "file").touch()
    assert len(warnings) == 1
    assert "has no locks" in warnings[0]
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["file"]


def test_a_run_that_was_killed_before_it_began_is_begun(
    command: list[str], undisturbed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / LOCK).write_text("process 1 on nowhere")
    (folder / ".run.json.1.partial").write_text('{"half')
    (folder / ".adapter.1.old.partial").mkdir()
    (folder / ".nasalign-ab_cd123.partial").mkdir()
    result = invoke(*command, "--out", folder)
    assert result.exit_code == 0, result.output
    assert {path.name for path in folder.iterdir()} == {path.name for path in undisturbed.iterdir()}
