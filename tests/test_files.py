"""Plain files are the old or the new one, never half of one."""

import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nasalign.errors import NasAlignError
from nasalign.io import files, storage


def rows_that_break() -> Iterator[dict[str, Any]]:
    yield {"a": 1}
    raise KeyError("the second row")


BREAKING: dict[str, Callable[[Path], None]] = {
    "json": lambda path: files.write_json(path, {"a": object()}),
    "jsonl": lambda path: files.write_jsonl(path, [{"a": 1}, {"a": object()}]),
    "rows": lambda path: files.write_jsonl(path, rows_that_break()),
    "text": lambda path: storage.write_text(path, "half \ud800"),  # UTF-8 has no lone surrogate
    "tensors": lambda path: files.write_tensors(path, {"a": object()}),
}


@pytest.mark.parametrize("kind", BREAKING)
def test_the_old_file_stays_when_writing_fails(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises((TypeError, KeyError, UnicodeError, AttributeError)):
        BREAKING[kind](path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    storage.write_text(path, "ü\n")
    assert path.read_bytes() == "ü\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_not_finite_is_text_at_any_depth(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    value = {"tau": -math.inf, "rows": [{"a": math.inf}, (math.nan, 1.5)], "n": 3, "b": True}
    files.write_json(path, value)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    read = json.loads(path.read_text(), parse_constant=refuse)
    assert read == {"tau": "-inf", "rows": [{"a": "inf"}, ["nan", 1.5]], "n": 3, "b": True}
    assert float(read["tau"]) == -math.inf
    assert files.read_json(path) == read


def test_json_lines_are_one_a_row_and_can_be_appended(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    files.write_jsonl(path, ({"text": text} for text in ("two\nlines", "é\u2028")))
    files.append_jsonl(path, {"nas": math.inf})
    lines = path.read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    rows = [{"text": "two\nlines"}, {"text": "é\u2028"}, {"nas": "inf"}]
    assert [json.loads(line) for line in lines] == rows
    assert "é" in lines[1]


def test_tensors_come_back_from_a_view(tmp_path: Path) -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    files.write_tensors(tmp_path / "t.safetensors", {"view": whole.T})
    assert torch.equal(load_file(tmp_path / "t.safetensors")["view"], whole.T)


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1', b"not json", b'{"a": "\xff"}'])
def test_a_json_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(NasAlignError, match=r"Cannot read .*run\.json: No such file"):
        files.read_json(tmp_path / "run.json")
    with pytest.raises(NasAlignError, match=r"Cannot read .*: Is a directory"):
        files.read_json(tmp_path)
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(NasAlignError, match=r"run\.json is not valid JSON: ") as caught:
        files.read_json(tmp_path / "run.json")
    assert "\n" not in str(caught.value)


def test_the_cache_is_the_users_unless_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NASALIGN_CACHE", str(tmp_path))
    assert storage.cache_folder() == tmp_path
    monkeypatch.delenv("NASALIGN_CACHE")
    monkeypatch.setattr(storage, "user_cache_path", lambda name: tmp_path / "user" / name)
    assert storage.cache_folder() == tmp_path / "user" / "nasalign"


def test_other_line_ends_do_not_end_a_row(tmp_path: Path) -> None:
    rows = [{"question": "one\u2028two\u2029three\x85four\nfive"}, {"question": "six"}]
    files.write_jsonl(tmp_path / "rows.jsonl", rows)
    assert files.read_jsonl(tmp_path / "rows.jsonl") == rows
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"question": "cut of')
    assert files.read_jsonl(tmp_path / "rows.jsonl") == rows


def test_what_is_made_beside_its_place_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    folder, text = tmp_path / "new" / "parent" / "folder", tmp_path / "new" / "parent" / "text"

    def make(*parts: str) -> None:
        with storage.beside(folder, text) as workplace:
            assert workplace.parent == folder.parent
            if "folder" in parts:
                (workplace / "folder").mkdir()
                (workplace / "folder" / "inside").write_text("whole")
            if "text" in parts:
                (workplace / "text").write_text("whole")
            if "error" in parts:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make("folder", "text", "error")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        make("folder")  # the first is moved before the second is missed
    assert list(tmp_path.iterdir()) == []
    make("folder", "text")
    assert sorted(folder.parent.rglob("*")) == [folder, folder / "inside", text]


def test_files_have_the_rights_that_files_had_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def umask(_: int) -> int:
        raise AssertionError("while it is set, files of other threads are for everybody")

    monkeypatch.setattr(os, "umask", umask)
    monkeypatch.setattr(storage, "_MASK", 0o027)
    files.write_tensors(tmp_path / "t.safetensors", {"a": torch.ones(1)})
    files.write_json(tmp_path / "j.json", {})
    with storage.beside(tmp_path / "x.json") as workplace:
        assert workplace.stat().st_mode & 0o777 == 0o700
        (workplace / "x.json").touch()
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}
