"""A GGUF file is made by the converter from the whole checkpoint, or nothing is."""

import json
import shlex
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load, load_file
from typer.testing import CliRunner, Result

from aligned import aligned
from nasalign.commands import app
from nasalign.commands.export import export_job
from nasalign.commands.job import Job

# Takes llama.cpp's arguments, reads the checkpoint, and writes it again after a line of its own.
CONVERTER = """#!/usr/bin/env python3
import argparse, json
from pathlib import Path
parser = argparse.ArgumentParser()
parser.add_argument("model", type=Path)
parser.add_argument("--outfile", type=Path)
parser.add_argument("--outtype", choices=["f32", "f16", "bf16", "auto"])
given = parser.parse_args()
assert json.loads((given.model / "tokenizer.json").read_text())["model"]["vocab"]
weights = (given.model / "model.safetensors").read_bytes()
size = int.from_bytes(weights[:8], "little")
header = json.loads(weights[8 : 8 + size])
kinds = {tensor["dtype"].lower() for name, tensor in header.items() if name[0] != "_"}
assert kinds == {given.outtype}
given.outfile.write_bytes(given.outtype.encode() + b"\\n" + weights)
"""
FAILING = """
import sys
print("INFO: reading")
for line in range(20):
    print(f"line {line}", file=sys.stderr)
sys.exit("NotImplementedError: BPE pre-tokenizer was not recognized")
"""
SILENT = "print('all is well')"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run, where there is no converter."""
    monkeypatch.delenv("LLAMA_CPP", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return aligned(tmp_path)


def checkout(folder: Path, script: str) -> Path:
    folder.mkdir()
    path = folder / "convert_hf_to_gguf.py"
    path.write_text(script)
    path.chmod(0o755)
    return folder


def export(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, arguments), "--format", "gguf"])


@pytest.mark.parametrize("found", ["LLAMA_CPP", "PATH"])
@pytest.mark.parametrize(("dtype", "outtype"), [(None, "f32"), ("bfloat16", "bf16")])
def test_the_converter_gets_the_merged_checkpoint(
    found: str,
    dtype: str | None,
    outtype: str,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = checkout(tmp_path / "bin", CONVERTER)
    if found == "LLAMA_CPP":
        monkeypatch.setenv(found, str(folder))
    out = tmp_path / "out"
    out.mkdir()
    done = export(run, out / "fixed", "--json", *(["--dtype", dtype] if dtype else []))
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["target"] == str(out / "fixed.gguf")
    assert said["card"] == str(out / "fixed.md")
    assert {path.name for path in out.iterdir()} == {"fixed.gguf", "fixed.md"}
    export_job(Job(), run, tmp_path / "merged", "merged", dtype)
    merged = load_file(tmp_path / "merged" / "model.safetensors")
    kind, _, weights = (out / "fixed.gguf").read_bytes().partition(b"\n")
    assert kind.decode() == outtype
    got = load(weights)
    assert set(got) == set(merged)
    assert all(torch.equal(got[name], tensor) for name, tensor in merged.items())
    card = ModelCard.load(out / "fixed.md")
    assert "gguf" in card.data.tags
    assert card.data.library_name is None
    assert "llama-cli -m fixed.gguf" in card.text
    assert "gguf_file=gguf" in card.text
    assert ("Rounded to bfloat16" in card.text) == (said["rounding"] is not None) == bool(dtype)


def test_without_a_converter_two_commands_are_named_and_do_it(run: Path, tmp_path: Path) -> None:
    there = set(tmp_path.rglob("*"))
    target = tmp_path / "new folder" / "fixed.gguf"
    done = export(run, target, "--dtype", "float16", "--model", tmp_path / "model")
    assert done.exit_code == 2
    assert set(tmp_path.rglob("*")) == there
    sentence, *commands = done.stderr.strip().splitlines()
    assert "LLAMA_CPP" in sentence
    first, second = map(shlex.split, commands)
    assert first[0] == "nasalign"
    assert CliRunner().invoke(app, first[1:]).exit_code == 0
    merged = load_file(tmp_path / "new folder" / "fixed" / "model.safetensors")
    assert {tensor.dtype for tensor in merged.values()} == {torch.float16}
    assert second[:2] == ["python", "llama.cpp/convert_hf_to_gguf.py"]
    assert second[2:] == [first[3], "--outfile", str(target), "--outtype", "f16"]


def test_the_outtype_named_is_that_of_the_run(run: Path, tmp_path: Path) -> None:
    assert export(run, tmp_path / "out").stderr.strip().endswith("--outtype f32")


@pytest.mark.parametrize(
    ("script", "said"),
    [(FAILING, "BPE pre-tokenizer was not recognized"), (SILENT, "all is well")],
)
def test_a_converter_that_fails_leaves_nothing_but_its_last_lines(
    script: str, said: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_CPP", str(checkout(tmp_path / "llama.cpp", script)))
    there = set(tmp_path.rglob("*"))
    done = export(run, tmp_path / "new" / "out")
    assert done.exit_code == 2
    assert said in done.stderr
    assert "line 19" in done.stderr or script == SILENT
    assert "line 5" not in done.stderr
    assert "Traceback" not in done.stderr
    assert set(tmp_path.rglob("*")) == there


def test_neither_the_file_nor_its_card_is_overwritten(run: Path, tmp_path: Path) -> None:
    for name in ("out.gguf", "out.md"):
        (tmp_path / name).write_text("mine")
        done = export(run, tmp_path / "out")
        assert done.exit_code == 2
        assert f"{name} is there already" in done.stderr
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
