"""A run that goes on where something has changed is refused by its name, and nothing is mixed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fault_tools import Stop, invoke, refused, said
from nasalign.commands import align
from nasalign.io.storage import seal

Change = Callable[[dict[str, Any]], object]


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
        patch.setattr(align, "align", stop)
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


CHANGED: list[tuple[str, Change]] = [
    ("dtype: 'bfloat16', now 'float32'", lambda facts: facts["model"].update(dtype="bfloat16")),
    ("quantisation: '4bit', now None", lambda facts: facts["model"].update(quantize="4bit")),
    ("device: 'cuda', now 'cpu'", lambda facts: facts["model"].update(device="cuda:1")),
    ("version of torch: '2.0.0'", lambda facts: facts["versions"].update(torch="2.0.0")),
    ("version of peft: '0.1'", lambda facts: facts["versions"].update(peft="0.1")),
    ("version of tokenizers: '0.1'", lambda facts: facts["versions"].update(tokenizers="0.1")),
    ("version of nasalign: '0.0.1'", lambda facts: facts["versions"].update(nasalign="0.0.1")),
    ("version of python: '2.7'", lambda facts: facts["versions"].update(python="2.7.18")),
    ("does not say what its data held", lambda facts: facts.pop("digests")),
]


@pytest.mark.parametrize(("what", "change"), CHANGED, ids=[what for what, _ in CHANGED])
def test_a_run_of_another_world_is_refused(
    what: str, change: Change, command: list[str], halfway: Path
) -> None:
    facts = json.loads((halfway / "run.json").read_text())
    change(facts)
    (halfway / "run.json").write_text(json.dumps(facts))
    before = contents(halfway)
    told = refused(invoke(*command, "--out", halfway, "--resume"))
    assert what in told
    assert "begin again with another --out" in told
    assert contents(halfway) == before


def test_a_patch_of_python_is_no_other_world(command: list[str], halfway: Path) -> None:
    facts = json.loads((halfway / "run.json").read_text())
    facts["versions"]["python"] = facts["versions"]["python"].rpartition(".")[0] + ".99"
    (halfway / "run.json").write_text(json.dumps(facts))
    assert invoke(*command, "--out", halfway, "--resume").exit_code == 0


def test_the_digests_are_those_of_sha256sum(command: list[str], halfway: Path) -> None:
    import hashlib

    digest = hashlib.sha256(Path(command[3]).read_bytes()).hexdigest()
    facts = json.loads((halfway / "run.json").read_text())
    assert facts["digests"] == {command[3]: digest}
    assert facts["model"]["quantize"] is None
    assert facts["versions"].keys() >= {"torch", "transformers", "tokenizers", "peft", "nasalign"}


@pytest.mark.parametrize(
    "name", ["eval/questions.before.jsonl", "parametric.jsonl", "probing.jsonl"]
)
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
    name: str, change: Callable[[list[dict]], object], command: list[str], halfway: Path
) -> None:
    path = halfway / name
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    seal(path)  # as whoever edits it on purpose does
    told = refused(invoke(*command, "--out", halfway, "--resume"))
    assert "was begun with other examples of" in told


@pytest.mark.parametrize(
    "name", ["eval/questions.before.jsonl", "parametric.jsonl", "probing.jsonl"]
)
@pytest.mark.parametrize("row", [[], 7, {"question": "?"}, None])
def test_rows_that_are_none_are_refused(
    name: str, row: object, command: list[str], halfway: Path
) -> None:
    path = halfway / name
    lines = path.read_text().splitlines()
    lines[2] = json.dumps(row)
    path.write_text("".join(line + "\n" for line in lines))
    seal(path)
    refused(invoke(*command, "--out", halfway, "--resume"))


WRONG: list[tuple[str, Change]] = [
    ("timings", lambda facts: facts.update(timings=[1])),
    ("timings.loading", lambda facts: facts.update(timings={"loading": "x"})),
    ("model", lambda facts: facts.update(model=[1])),
    ("model.parameters", lambda facts: facts["model"].update(parameters="many")),
    ("model.device", lambda facts: facts["model"].update(device=None)),
    ("model.source", lambda facts: facts["model"].update(source={})),
    ("settings", lambda facts: facts.update(settings=[1])),
    ("settings.seed", lambda facts: facts["settings"].update(seed="x")),
    ("settings.context", lambda facts: facts["settings"].update(context="some")),
    ("settings.rho", lambda facts: facts["settings"].update(rho=None)),
    ("settings.vocabulary", lambda facts: facts["settings"].update(vocabulary=[])),
    ("versions", lambda facts: facts.update(versions="1")),
    ("versions.torch", lambda facts: facts["versions"].update(torch=2)),
    ("digests", lambda facts: facts.update(digests=["x"])),
    ("further", lambda facts: facts.update(further={})),
    ("data_origin", lambda facts: facts.update(data_origin=3)),
    ("examples", lambda facts: facts.update(examples=[])),
    ("special_tokens", lambda facts: facts.update(special_tokens=7)),
    ("probing", lambda facts: facts.update(probing="x")),
    ("dropped.x.y", lambda facts: facts.update(dropped={"x": {"y": "z"}})),
]


@pytest.mark.parametrize(("where", "change"), WRONG, ids=[where for where, _ in WRONG])
def test_a_run_file_that_was_edited_is_refused_by_all_that_read_it(
    where: str, change: Change, command: list[str], undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    facts = json.loads((run / "run.json").read_text())
    change(facts)
    (run / "run.json").write_text(json.dumps(facts))
    for arguments in (
        ("report", run),
        ("export", run, tmp_path / "out"),
        ("export", run, tmp_path / "out", "--format", "adapter"),
        ("evaluate", *command[1:4], "--adapter", run),
    ):
        told = refused(invoke(*arguments))
        assert "run.json is not as nasalign writes it" in told, arguments
        assert f"'{where}'" in told
    (run / "metrics.json").unlink()
    told = refused(invoke(*command, "--out", run, "--resume"))
    assert "so the run cannot be resumed: take another --out" in told
    assert f"'{where}'" in told


@pytest.mark.parametrize("name", ["metrics.json", "heads.json", "side_effects.json"])
@pytest.mark.parametrize("content", ["[1]", "{}", '{"datasets": [1]}', "7", "null", '["x", {}]'])
def test_another_file_of_a_run_that_was_edited(
    name: str, content: str, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    (run / name).write_text(content)
    for arguments in (("report", run), ("export", run, tmp_path / "out", "--format", "adapter")):
        result = invoke(*arguments)
        assert result.exit_code in (0, 2), result.exception
        assert result.exit_code == 0 or said(result)
