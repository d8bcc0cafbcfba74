"""A run that goes on where something has changed is refused by its name, and nothing is mixed."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fault_tools import Stop, done, invoke, refused, said
from nasalign.commands import align
from nasalign.io.storage import seal


@pytest.fixture
def data(command: list[str]) -> Iterator[Path]:
    """The data file, which is put back at the end."""
    path = Path(command[3])
    content = path.read_bytes()
    yield path
    path.write_bytes(content)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_edited_data_file_is_refused(command: list[str], halfway: Path, data: Path) -> None:
    before = contents(halfway)
    data.write_text(data.read_text().replace("word7?", "word7 now?"))
    told = refused(invoke(*command, "--out", halfway, "--resume"))
    assert f"was begun with another content of {data}".replace(" ", "") in told.replace(" ", "")
    assert "begin again with another --out" in told
    assert contents(halfway) == before


@pytest.mark.parametrize("option", ["--probing-data", "--eval"])
def test_every_other_file_that_is_read_counts_too(
    option: str, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, run = tmp_path / "other.jsonl", tmp_path / "run"
    shutil.copy(command[3], other)
    with monkeypatch.context() as patch:
        patch.setattr(align, "correct", stop)
        assert isinstance(invoke(*command, option, other, "--out", run).exception, Stop)
    other.write_text(other.read_text().replace("word7?", "word7 now?"))
    told = refused(invoke(*command, option, other, "--out", run, "--resume"))
    assert "was begun with another content of" in told


def stop(*_: object, **__: object) -> None:
    raise Stop


def test_another_dtype_is_refused(command: list[str], halfway: Path) -> None:
    told = refused(invoke(*command, "--out", halfway, "--resume", "--dtype", "bfloat16"))
    assert "was begun with another" in told
    assert "another dtype" in told


def edit(run: Path, where: str, value: object) -> None:
    """Gives a fact of a run, named by its path with dots, another value."""
    facts = json.loads((run / "run.json").read_text())
    *path, last = where.split(".")
    part = facts
    for name in path:
        part = part.setdefault(name, {})
    part[last] = value
    (run / "run.json").write_text(json.dumps(facts))


CHANGED = [
    ("model.dtype", "bfloat16", "dtype: 'bfloat16', now 'float32'"),
    ("model.quantize", "4bit", "quantisation: '4bit', now None"),
    ("model.device", "cuda:1", "device: 'cuda', now 'cpu'"),
    ("versions.torch", "2.0.0", "version of torch: '2.0.0'"),
    ("versions.peft", "0.1", "version of peft: '0.1'"),
    ("versions.tokenizers", "0.1", "version of tokenizers: '0.1'"),
    ("versions.nasalign", "0.0.1", "version of nasalign: '0.0.1'"),
    ("versions.python", "2.7.18", "version of python: '2.7'"),
    ("digests", {}, "does not say what its data held"),
]


@pytest.mark.parametrize(("where", "value", "what"), CHANGED)
def test_a_run_of_another_world_is_refused(
    where: str, value: object, what: str, command: list[str], halfway: Path
) -> None:
    edit(halfway, where, value)
    before = contents(halfway)
    told = refused(invoke(*command, "--out", halfway, "--resume"))
    assert what in told
    assert "begin again with another --out" in told
    assert contents(halfway) == before


def test_a_patch_of_python_is_no_other_world(command: list[str], halfway: Path) -> None:
    edit(halfway, "versions.python", f"{sys.version_info.major}.{sys.version_info.minor}.99")
    done(*command, "--out", halfway, "--resume")


def test_the_digests_are_those_of_sha256sum(command: list[str], halfway: Path) -> None:
    digest = hashlib.sha256(Path(command[3]).read_bytes()).hexdigest()
    facts = json.loads((halfway / "run.json").read_text())
    assert facts["digests"] == {command[3]: digest}
    assert facts["model"]["quantize"] is None
    assert facts["versions"].keys() >= {"torch", "transformers", "tokenizers", "peft", "nasalign"}


each_file = pytest.mark.parametrize(
    "name", ["eval/questions.before.jsonl", "parametric.jsonl", "probing.jsonl"]
)


def rewrite(path: Path, change: Callable[[list], object]) -> None:
    """Changes rows and seals them, as whoever edits them on purpose does."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    seal(path)


@each_file
@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[3].update(question="Another?"),
        lambda rows: rows[0].update(answer="another"),
        lambda rows: rows.pop(),
        lambda rows: rows.append(rows[0]),
        lambda rows: rows.insert(0, rows.pop()),
    ],
)
def test_rows_of_other_questions_are_refused(
    name: str, change: Callable[[list], object], command: list[str], halfway: Path
) -> None:
    rewrite(halfway / name, change)
    told = refused(invoke(*command, "--out", halfway, "--resume"))
    assert "was begun with other examples of" in told


@each_file
@pytest.mark.parametrize("row", [[], 7, {"question": "?"}, None])
def test_rows_that_are_none_are_refused(
    name: str, row: object, command: list[str], halfway: Path
) -> None:
    rewrite(halfway / name, lambda rows: rows.__setitem__(2, row))
    refused(invoke(*command, "--out", halfway, "--resume"))


WRONG: dict[str, object] = {"timings": [1], "timings.loading": "x", "versions": "1"}
WRONG |= {"model": [1], "model.parameters": "many", "model.device": None, "model.source": {}}
WRONG |= {"settings": [1], "settings.seed": "x", "settings.context": "some", "settings.rho": None}
WRONG |= {"settings.vocabulary": [], "versions.torch": 2, "digests": ["x"], "further": {}}
WRONG |= {"data_origin": 3, "examples": [], "special_tokens": 7, "probing": "x", "dropped.x.y": "z"}


@pytest.mark.parametrize("where", WRONG)
def test_a_run_file_that_was_edited_is_refused_by_all_that_read_it(
    where: str, command: list[str], finished: Path, tmp_path: Path
) -> None:
    run = finished
    edit(run, where, WRONG[where])
    setting = where.partition("settings.")[2]
    named = f"The setting {setting} is" if setting else f"at {where}:"
    for arguments in (
        ("report", run),
        ("export", run, tmp_path / "out"),
        ("export", run, tmp_path / "out", "--format", "adapter"),
        ("evaluate", *command[1:4], "--adapter", run),
    ):
        told = refused(invoke(*arguments))
        assert "run.json is not as nasalign writes it" in told, arguments
        assert named in told.replace("'", "")
    (run / "metrics.json").unlink()
    told = refused(invoke(*command, "--out", run, "--resume"))
    assert "so the run cannot be resumed: take another --out" in told
    assert named in told.replace("'", "")


@pytest.mark.parametrize("name", ["metrics.json", "heads.json", "side_effects.json"])
@pytest.mark.parametrize("content", ["[1]", "{}", '{"datasets": [1]}', "7", "null", '["x", {}]'])
def test_another_file_of_a_run_that_was_edited(
    name: str, content: str, finished: Path, tmp_path: Path
) -> None:
    (finished / name).write_text(content)
    for arguments in (
        ("report", finished),
        ("export", finished, tmp_path / "out", "--format", "adapter"),
    ):
        result = invoke(*arguments)
        assert result.exit_code in (0, 2), result.exception
        assert result.exit_code == 0 or said(result)
