"""What a run writes once and reads back: verified files, facts before them, nothing half."""

import json
from pathlib import Path
from typing import Any

import pytest

from nasalign.errors import NasAlignError
from nasalign.io.files import read_json, write_json
from nasalign.io.storage import seal
from nasalign.run import Run


def made(run: Run, value: Any, also: tuple[str, ...] = ()) -> tuple[Any, int]:
    """What a run gives for a file that would hold ``value``, and how often it was made."""
    calls: list[None] = []

    def make() -> Any:
        calls.append(None)
        run.facts["told"] = value
        return value

    def dump(path: Path, content: Any) -> None:
        write_json(path, content)
        for name in also:
            write_json(path.with_name(name), {"beside": content})

    return run.cached("part/value.json", make, dump, read_json, also), len(calls)


def test_a_verified_file_is_read_and_any_other_is_made_again(tmp_path: Path) -> None:
    assert made(Run(tmp_path), 1) == (1, 1)
    resumed = Run(tmp_path, resuming=True)
    assert made(resumed, 2) == (1, 0)
    assert made(Run(tmp_path), 2) == (2, 1)  # a run that is not resumed makes everything
    (tmp_path / "part" / "value.json").write_text("3")  # not what was written
    assert made(resumed, 4) == (4, 1)


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert made(Run(), 1) == (1, 1)
    assert list(tmp_path.iterdir()) == []


def test_every_file_of_a_stage_must_be_whole(tmp_path: Path) -> None:
    made(Run(tmp_path), 1, also=("more.json",))
    assert made(Run(tmp_path, resuming=True), 2, also=("more.json",)) == (1, 0)
    (tmp_path / "part" / "more.json").unlink()
    assert made(Run(tmp_path, resuming=True), 2, also=("more.json",)) == (2, 1)


def test_the_facts_are_saved_before_the_file_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path)
    run.facts["model"] = {}

    def stop(path: Path) -> None:
        assert json.loads((tmp_path / "run.json").read_text())["told"] == 1
        raise KeyboardInterrupt

    monkeypatch.setattr("nasalign.run.seal", stop)
    with pytest.raises(KeyboardInterrupt):
        made(run, 1)
    monkeypatch.setattr("nasalign.run.seal", seal)
    assert made(Run(tmp_path, resuming=True), 2) == (2, 1)


def test_a_file_that_cannot_be_understood_is_a_sentence(tmp_path: Path) -> None:
    made(Run(tmp_path), {"n": 1})
    with pytest.raises(NasAlignError, match="not as nasalign writes them"):
        Run(tmp_path, resuming=True).cached(
            "part/value.json", dict, write_json, lambda path: read_json(path)["gone"]
        )
