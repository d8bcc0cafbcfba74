"""What is written, read or removed by its name in a run folder is there, not behind a link."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import jobs
from fault_tools import invoke, refused
from nasalign.commands.evaluate import adapter_folder
from nasalign.errors import NasAlignError, StorageError
from nasalign.io import files, storage
from nasalign.io.locks import LOCK, one_run_in
from nasalign.rivals.baselines import NASA
from nasalign.run import check_folder, make_folder
from run_folder import make_run

MODEL = "nobody/nothing"
WRITE = {name: [name, MODEL, "--overwrite", "--out"] for name in ("align", "compare", "diagnose")}
WRITE |= {f"{name} --resume": [name, MODEL, "--resume", "--out"] for name in ("align", "compare")}
WRITE["evaluate"] = ["evaluate", MODEL, "--overwrite", "--out"]
WRITE["scenarios"] = ["evaluate", MODEL, "--overwrite", "--scenario", "plain", "--out"]
WRITE["reproduce"] = ["reproduce", "table-1", "--model", MODEL, "--out"]
COMMANDS = WRITE | {"report": ["report"], "export": ["export"]}
NAMES = ("run.json", "metrics.json", "tuning.jsonl", "SHA256SUMS", "report.html", LOCK)
NAMES += ("compare", "checkpoint", "adapter", "eval", "eval/facts.before.jsonl", "eval/deep/er")
NAMES += (".run.json.1.partial", ".nasalign-abcd1234.partial", "what/ever")


def tree(folder: Path) -> dict[str, bytes | str | None]:
    """What is in a folder, with where its links lead."""
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in folder.rglob("*")
    }


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """What no test may touch: a run that a link leads to, whole or to a file of it."""
    folder = make_run(tmp_path / "elsewhere")
    (folder / "compare" / NASA.name).mkdir(parents=True)
    for path in (folder / "compare" / NASA.name / "mine", folder / ".mine.1.partial"):
        path.write_text("mine")
    before = tree(folder)
    yield folder
    assert tree(folder) == before


@pytest.fixture
def linked(tmp_path: Path, elsewhere: Path) -> Callable[[str], Path]:
    """Makes a run in which a name is a link."""

    def make(name: str) -> Path:
        folder = make_run(tmp_path / "run")
        path = folder / name
        if path.is_dir():
            path.rename(folder / "away")
        path.unlink(missing_ok=True)
        path.parent.mkdir(exist_ok=True, parents=True)
        there = elsewhere / name
        path.symlink_to(there if there.exists() else elsewhere)
        return folder

    return make


@pytest.mark.parametrize("name", NAMES)
def test_a_run_with_a_link_is_refused_by_every_command(
    linked: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    folder = linked(name)
    before = tree(folder)
    for arguments in COMMANDS.values():
        more = [tmp_path / "out"] if arguments == ["export"] else []
        assert f"{folder / name} is a link" in refused(invoke(*arguments, folder, *more))
        assert tree(folder) == before
    with pytest.raises(StorageError, match="is a link"):  # ask, chat, serve, evaluate --adapter
        adapter_folder(folder)
    if name != "adapter":  # else the user has named what it leads to
        with pytest.raises(StorageError, match="is a link"):
            adapter_folder(folder / "adapter")


def test_nothing_is_read_from_a_pipe(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    (folder / "metrics.json").unlink()
    os.mkfifo(folder / "metrics.json")
    assert "metrics.json is no regular file" in refused(invoke("report", folder))


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    (tmp_path / "link").symlink_to("run")
    with jobs.make(folder=tmp_path / "link", overwrite=True).locked():
        make_folder(tmp_path / "link")
    assert [path.name for path in (tmp_path / "run").iterdir()] == []
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "{}", '{"versions": "0.1"}', '{"versions": {"python": "3.11"}}']
)
def test_what_nasalign_did_not_write_is_not_overwritten(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "mine").write_text("mine")
    before = tree(tmp_path)
    for arguments in WRITE.values():
        if "--overwrite" in arguments:
            assert "does not say that nasalign wrote it" in refused(invoke(*arguments, tmp_path))
    assert tree(tmp_path) == before


def test_what_it_wrote_is_overwritten(tmp_path: Path) -> None:
    check_folder(make_run(tmp_path / "run"), overwrite=True)
    (tmp_path / "movie.partial").touch()  # of another program
    with pytest.raises(NasAlignError, match="is there already"):
        check_folder(tmp_path, overwrite=False)


WRITERS: dict[str, Callable[[Path], object]] = {
    "text": lambda path: storage.write_text(path, "new"),
    "rows": lambda path: files.write_jsonl(path, [{"a": 1}]),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_names_that_can_be_foretold_are_not_written_through(
    tmp_path: Path, elsewhere: Path, kind: str
) -> None:
    victim, path = elsewhere / "run.json", tmp_path / "file"
    victim.chmod(0o600)
    for end in (".partial", ".old.partial"):
        (tmp_path / f".file.{os.getpid()}{end}").symlink_to(victim)
    path.symlink_to(victim)
    WRITERS[kind](path)
    assert not path.is_symlink()
    assert victim.stat().st_mode & 0o777 == 0o600


def test_what_is_made_is_made_where_nobody_else_can(
    tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even a name that was guessed is used if it is there."""
    names = iter(["planted", "other"])
    monkeypatch.setattr(tempfile, "_get_candidate_names", lambda: names)
    (tmp_path / ".nasalign-planted.partial").symlink_to(elsewhere)
    storage.write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"
    assert next(names, None) is None


def test_no_line_is_appended_and_no_lock_written_through_a_link(
    tmp_path: Path, elsewhere: Path
) -> None:
    (tmp_path / "tuning.jsonl").symlink_to(elsewhere / "tuning.jsonl")
    with pytest.raises(StorageError, match=r"Cannot write .*tuning\.jsonl"):
        files.append_jsonl(tmp_path / "tuning.jsonl", {"a": 1})
    (tmp_path / LOCK).symlink_to(elsewhere / "run.json")
    with pytest.raises(StorageError, match="Cannot write"), one_run_in(tmp_path, print):
        pass


def test_what_is_made_holds_no_link(tmp_path: Path, elsewhere: Path) -> None:
    """The rights of what a link leads to stay as they are."""
    victim = elsewhere / "run.json"
    victim.chmod(0o600)

    def make() -> None:
        with storage.beside(tmp_path / "x") as workplace:
            (workplace / "x").mkdir()
            (workplace / "x" / "link").symlink_to(victim)

    with pytest.raises(OSError, match="symbolic"):
        make()
    assert victim.stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "x").exists()


def test_leftovers_are_removed_and_what_they_lead_to_is_not(
    tmp_path: Path, elsewhere: Path
) -> None:
    folder = tmp_path / "run" / "deep"
    folder.mkdir(parents=True)
    for name in (".nasalign-ab_cd123.partial", ".adapter.12.old.partial"):
        (folder / name).mkdir()
        (folder / name / "link").symlink_to(elsewhere)
    (folder / ".run.json.12.partial").symlink_to(elsewhere)
    (folder / "away").symlink_to(elsewhere)
    (folder / ".mine.partial").touch()
    storage.sweep(tmp_path / "run")
    assert sorted(path.name for path in folder.iterdir()) == [".mine.partial", "away"]


def test_a_folder_that_is_a_link_is_removed_as_one(tmp_path: Path, elsewhere: Path) -> None:
    (tmp_path / "checkpoint").symlink_to(elsewhere)
    storage.remove_folder(tmp_path / "checkpoint")
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]
