"""An export holds what was checked and nothing of this machine, and no more than it is uploaded."""

import json
import shutil
from pathlib import Path
from typing import get_args

import pytest
from safetensors.torch import load_file

from aligned import aligned
from cases import DENIES, case, sets
from fault_tools import SETTINGS, done, invoke, refused
from nasalign.adapters.adapter_file import CONFIG, FILE, read_adapter
from nasalign.commands.export import export_job
from nasalign.commands.job import Job
from nasalign.reporting.card import Form

CONVERTER = """
import sys
from pathlib import Path
folder = Path(sys.argv[1])
Path(sys.argv[3]).write_bytes(b"".join(path.read_bytes() for path in sorted(folder.iterdir())))
"""


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("a key of this machine")
    return path


def test_what_else_lies_in_an_adapter_is_not_exported(tmp_path: Path, secret: Path) -> None:
    adapter = aligned(tmp_path) / "adapter"
    shutil.move(adapter, tmp_path / "alone")
    (tmp_path / "alone" / "README.md").symlink_to(secret)
    (tmp_path / "alone" / "more").symlink_to(tmp_path)
    (tmp_path / "alone" / "notes.txt").write_text("a stranger's")
    exported = export_job(Job(), tmp_path / "alone", tmp_path / "out", "adapter")
    found = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert found == ["README.md", CONFIG, FILE] == sorted(exported.files)
    assert secret.read_text() not in (tmp_path / "out" / "README.md").read_text()
    low = export_job(Job(), tmp_path / "alone", tmp_path / "low", "adapter", rank=4)
    assert low.files.keys() == exported.files.keys()


def test_an_adapter_that_is_no_file_is_none(tmp_path: Path) -> None:
    adapter = tmp_path / "alone"
    (aligned(tmp_path) / "adapter").rename(adapter)
    (adapter / CONFIG).unlink()
    (adapter / CONFIG).symlink_to("/dev/null")  # another device could be read for ever
    said = refused(invoke("export", adapter, tmp_path / "out", "--format", "adapter"))
    assert "There is no whole adapter" in said


def test_what_comes_into_the_folder_later_is_not_uploaded(tmp_path: Path) -> None:
    run = aligned(tmp_path)
    for form in get_args(Form)[:2]:
        exported = export_job(Job(), run, tmp_path / form, form)
        there = {path.name: path for path in (tmp_path / form).iterdir()}
        (tmp_path / form / "later.txt").write_text("mine")
        assert exported.files == there


def test_the_code_of_a_model_that_a_run_names_is_not_run(tmp_path: Path) -> None:
    run = aligned(tmp_path)
    for form in ("merged", "adapter", "gguf"):
        words = ("export", run, tmp_path / "out", "--format", form, "--trust-remote-code")
        assert "so say which that is with --model" in refused(invoke(*words))
        assert not (tmp_path / "out").exists()
    done(*words[:3], "--trust-remote-code", "--model", tmp_path / "model")


def test_a_model_that_an_adapter_alone_names_is_not_looked_for_here(tmp_path: Path) -> None:
    adapter = tmp_path / "alone"
    (aligned(tmp_path) / "adapter").rename(adapter)
    config = json.loads((adapter / CONFIG).read_text())
    for name in (str(tmp_path / "model"), "model", "HuggingFaceTB/SmolLM2-135M-Instruct", "~no/x"):
        (adapter / CONFIG).write_text(json.dumps(config | {"base_model_name_or_path": name}))
        said = refused(invoke("export", adapter, tmp_path / "out"))
        assert f"where its base model '{name}' is; give --model" in said
        done("export", adapter, tmp_path / "card", "--format", "adapter", "--json")
        last = name if name.startswith("Hugging") else Path(name).name
        written = json.loads((tmp_path / "card" / CONFIG).read_text())
        assert written["base_model_name_or_path"] == last
        shutil.rmtree(tmp_path / "card")


def test_nothing_that_is_shared_holds_a_path_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home-of-ann"
    (tmp_path / "case").mkdir()
    model, data = case(tmp_path / "case", DENIES, questions=40)
    base, questions = home / "models" / "base", home / "private" / "strategyqa.jsonl"
    shutil.copytree(model, base)
    questions.parent.mkdir()
    shutil.copy(data, questions)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    (home / "convert_hf_to_gguf.py").write_text(CONVERTER)
    monkeypatch.setenv("LLAMA_CPP", str(home))
    run, shared = home / "runs" / "mine", tmp_path / "shared"
    done("align", base, "--data", questions, "--eval", questions, *sets(SETTINGS), "--out", run)
    assert "strategyqa" in json.loads((run / "run.json").read_text())["data"]
    for form in ("merged", "adapter", "gguf"):
        done("export", run, shared / form, "--format", form)
    words = ["evaluate", base, "--data", questions, "--split", "test", "--adapter", run]
    done(*words, "--out", home / "runs" / "after")
    shutil.copytree(run / "adapter", shared / "of the run")
    for name in ("mine", "after"):
        page = shared / f"{name}.html"
        shutil.copy(home / "runs" / name / "report.html", page)
        text = page.read_text()
        assert "strategyqa.jsonl" in text
        assert "--source" not in text
    files = [path for path in shared.rglob("*") if path.is_file()]
    assert len(files) >= 12
    for path in files:
        content = path.read_bytes()
        for part in (tmp_path, "home-of-ann", "models/base", "private/", "runs/../"):
            assert str(part).encode() not in content, (path, part)
        assert b"ChilleD" not in content
    config = json.loads((shared / "of the run" / CONFIG).read_text())
    assert config["base_model_name_or_path"] == "base"
    assert read_adapter(shared / "adapter").base_model == "base"
    assert load_file(shared / "adapter" / FILE).keys() == load_file(run / "adapter" / FILE).keys()
