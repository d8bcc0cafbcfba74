"""Exports in a process that has transformers and PEFT alone: the same logits, the same answers."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from aligned import aligned, changed
from fault_tools import python
from nasalign.adapters.adapter import load_adapter
from nasalign.commands.export import export_job
from nasalign.commands.job import Job
from nasalign.models.loading import DTYPES, load
from nasalign.reporting.card import Form

TEXT = "Question: What is the capital of France? Is the answer Paris? Answer:"
PROGRAM = """
import json, os, sys
from pathlib import Path
import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
os.chdir(FOLDER)
said = {}
for name, (folder, base) in json.loads(Path("exports.json").read_text()).items():
    tokenizer = AutoTokenizer.from_pretrained(base or folder)
    model = AutoModelForCausalLM.from_pretrained(base or folder)
    if base:
        model = PeftModel.from_pretrained(model, folder)
    ids = tokenizer(TEXT, return_tensors="pt").input_ids
    with torch.no_grad():
        said[f"{name} logits"] = model.eval()(ids).logits
        said[f"{name} answer"] = model.generate(input_ids=ids, max_new_tokens=8, do_sample=False)
save_file(said, "said.safetensors")
assert "nasalign" not in sys.modules
"""


@dataclass(frozen=True)
class Export:
    """What is exported, and in which dtype it is loaded elsewhere."""

    form: Form
    dtype: str | None = None
    rank: int | None = None


EXPORTS = {
    "merged": Export("merged"),
    "bfloat16": Export("merged", "bfloat16"),
    "adapter": Export("adapter"),
    "reduced": Export("adapter", rank=8),
}


def elsewhere(folder: Path, exports: dict[str, tuple[Path, Path | None]]) -> dict[str, Tensor]:
    """Logits and greedy answers of exports (with their base if adapters), from a fresh process."""
    paths = {
        name: (str(path), str(base) if base else None) for name, (path, base) in exports.items()
    }
    (folder / "exports.json").write_text(json.dumps(paths))
    program = PROGRAM.replace("TEXT", repr(TEXT)).replace("FOLDER", repr(str(folder)))
    done = python("-c", program, PYTHONPATH="", MKL_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    return load_file(folder / "said.safetensors")


@torch.no_grad()
def here(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[Tensor, Tensor]:
    ids = tokenizer(TEXT, return_tensors="pt").input_ids
    answer = model.generate(input_ids=ids, max_new_tokens=8, do_sample=False)
    return model(ids).logits, answer


def round_weights(model: PreTrainedModel, dtype: str | None) -> None:
    """Rounds the weights alone: the angles of the rotary embedding stay in float32."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(DTYPES[dtype or "float32"])


def check(said: dict[str, Tensor], name: str, model: PreTrainedModel, tokenizer: object) -> None:
    """Equal to the bit for a checkpoint, near for an adapter; the answer is the same."""
    logits, answer = here(model, tokenizer)
    exact = not name.endswith(("adapter", "reduced"))
    atol = 0 if exact else 2e-4 if model.config.vocab_size > 1000 else 2e-5
    torch.testing.assert_close(said[f"{name} logits"], logits, atol=atol, rtol=0)
    assert torch.equal(said[f"{name} answer"], answer)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each family, with its run and its exports."""
    places = {family: tmp_path_factory.mktemp(family) for family in ("llama", "phi3")}
    for family, place in places.items():
        run = aligned(place, family)
        for name, one in EXPORTS.items():
            export_job(Job(), run, place / name, one.form, one.dtype, one.rank)
    return places


@pytest.fixture(scope="module")
def said(places: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """What all exports say, from one process."""
    exports = {
        f"{family} {name}": (place / name, place / "model" if one.form == "adapter" else None)
        for family, place in places.items()
        for name, one in EXPORTS.items()
    }
    return elsewhere(tmp_path_factory.mktemp("elsewhere"), exports)


@pytest.mark.parametrize("family", ["llama", "phi3"])
@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_says_elsewhere_what_the_tuned_model_says_here(
    name: str, family: str, places: dict[str, Path], said: dict[str, Tensor]
) -> None:
    place = places[family]
    model, tokenizer = load(str(place / "model"))
    untouched, _ = here(model, tokenizer)
    folder = place / "reduced" if name == "reduced" else place / "run" / "adapter"
    load_adapter(folder, model).apply(model)
    round_weights(model, EXPORTS[name].dtype)
    check(said, f"{family} {name}", model, tokenizer)
    assert (said[f"{family} {name} logits"] - untouched).abs().max() > 0.05


@pytest.mark.long
@pytest.mark.slow
def test_exports_of_the_embedded_model_say_elsewhere_what_it_says_here(tmp_path: Path) -> None:
    model, tokenizer = load("smollm2-135m")
    base = tmp_path / "base"
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    untouched, _ = here(model, tokenizer)
    run = changed(model, tokenizer, "smollm2-135m", tmp_path / "run", 0.1)
    exports, few = {}, {name: EXPORTS[name] for name in ("merged", "adapter")}
    for name, one in few.items():
        export_job(Job(), run, tmp_path / name, one.form, one.dtype, one.rank)
        exports[name] = (tmp_path / name, base if one.form == "adapter" else None)
    said = elsewhere(tmp_path, exports)
    model, tokenizer = load("smollm2-135m")
    load_adapter(run / "adapter", model).apply(model)
    for name in few:
        check(said, name, model, tokenizer)
        assert (said[f"{name} logits"] - untouched).abs().max() > 0.05
