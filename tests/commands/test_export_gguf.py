"""A GGUF file is made by the converter from the whole checkpoint, or nothing is."""

import shlex
from pathlib import Path

import pytest
import torch
from click.testing import Result
from huggingface_hub import ModelCard
from safetensors.torch import load, load_file

from aligned import aligned
from fault_tools import done, invoke, printed, refused
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
    return invoke("export", *arguments, "--format", "gguf")


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
    more = ["--dtype", dtype] if dtype else []
    said = printed("export", run, out / "fixed", "--format", "gguf", *more)
    assert (said["target"], said["card"]) == (f"{out}/fixed.gguf", f"{out}/fixed.md")
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
    missing = export(run, target, "--dtype", "float16", "--model", tmp_path / "model")
    refused(missing)
    assert set(tmp_path.rglob("*")) == there
    sentence, *commands = missing.stderr.strip().splitlines()
    assert "LLAMA_CPP" in sentence
    assert export(run, target).stderr.strip().endswith("--outtype f32")  # that of the run
    first, second = map(shlex.split, commands)
    assert first[0] == "nasalign"
    done(*first[1:])
    merged = load_file(tmp_path / "new folder" / "fixed" / "model.safetensors")
    assert {tensor.dtype for tensor in merged.values()} == {torch.float16}
    assert second[:2] == ["python", "llama.cpp/convert_hf_to_gguf.py"]
    assert second[2:] == [first[3], "--outfile", str(target), "--outtype", "f16"]


@pytest.mark.parametrize(
    ("script", "said"), [(FAILING, "BPE pre-tokenizer was not recognized"), (SILENT, "all is well")]
)
def test_a_converter_that_fails_leaves_nothing_but_its_last_lines(
    script: str, said: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_CPP", str(checkout(tmp_path / "llama.cpp", script)))
    there = set(tmp_path.rglob("*"))
    told = refused(export(run, tmp_path / "new" / "out"))
    assert said in told
    assert "line 19" in told or script == SILENT
    assert "line 5" not in told
    assert set(tmp_path.rglob("*")) == there


def test_neither_the_file_nor_its_card_is_overwritten(run: Path, tmp_path: Path) -> None:
    for name in ("out.gguf", "out.md"):
        (tmp_path / name).write_text("mine")
        assert f"{name} is there already" in refused(export(run, tmp_path / "out"))
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
