"""A run directory with the adapter of a tiny model, for what is done with a result."""

import contextlib
import json
import re
from pathlib import Path

import torch
from huggingface_hub import ModelCard
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import tiny
from nasalign.adapters.adapter import Adapter
from nasalign.adapters.scaling import Calibration
from nasalign.config import KeyScope
from nasalign.head_rows.rows import head_slices, read_weight_rows, write_rows
from nasalign.models.geometry import HeadGeometry
from nasalign.models.loading import fingerprint, load
from nasalign.run import describe

HEADS = ((0, 0), (0, 1), (2, 3), (1, 2))  # (0, 0) and (0, 1) share a key group


def aligned(
    folder: Path,
    family: str = "llama",
    *,
    change: float = 0.1,
    stored: torch.dtype = torch.float32,
    dtype: str = "float32",
    heads: tuple[tuple[int, int], ...] = HEADS,
    scope: KeyScope = "group",
    calibration: Calibration | None = None,
) -> Path:
    """Makes a run directory beside its base model, ``folder / "model"``, and returns it.

    ``change`` is the standard deviation of the change of the rows; the base model's files are of
    the dtype ``stored``, and it is loaded and changed in ``dtype``.
    """
    run = folder / "run"
    base = tiny.save(folder / "model", family, dtype=stored)
    model, tokenizer = load(str(base), dtype=dtype)
    return changed(model, tokenizer, str(base), run, change, heads, scope, calibration)


def changed(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    source: str,
    run: Path,
    change: float,
    heads: tuple[tuple[int, int], ...] = HEADS,
    scope: KeyScope = "group",
    calibration: Calibration | None = None,
) -> Path:
    """Changes the rows of heads by noise and leaves it as a run directory; changes the model."""
    run.mkdir()
    facts = describe(model, tokenizer) | {"settings": {"decoder": "logits"}}
    facts["model"]["source"], facts["command"] = source, "align"
    (run / "run.json").write_text(json.dumps(facts))
    geometry = HeadGeometry.of(model)
    slices = [where for head in heads for where in head_slices(geometry, *head, scope)]
    before = {where: read_weight_rows(model, where) for where in slices}
    print_of_base = fingerprint(model)
    generator = torch.Generator().manual_seed(5)
    for where, rows in before.items():
        write_rows(model, where, rows + change * torch.randn(rows.shape, generator=generator))
    Adapter.between(before, model, print_of_base).save(run / "adapter", source, calibration)
    return run


def loaded_as_the_card_says(folder: Path) -> PreTrainedModel:
    """Runs the code of a card in its folder; the base model's folder is there by its name."""
    text = ModelCard.load(folder / "README.md").text
    [code] = re.findall(r"```python\n(.*?)\n```\n", text, flags=re.DOTALL)
    if not (folder / "model").exists():
        (folder / "model").symlink_to(folder.parent / "model")
    names: dict = {}
    with contextlib.chdir(folder):
        exec(compile(code, "card", "exec"), names)
    assert names["tokenizer"].chat_template
    return names["model"].eval()
