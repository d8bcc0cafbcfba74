"""A tiny model on disk and an adapter that changes what it says, as commands take them."""

from pathlib import Path

import torch

import tiny
from nasalign.adapters.adapter import Adapter
from nasalign.head_rows.rows import read_weight_rows
from nasalign.models.geometry import HeadGeometry
from nasalign.models.loading import fingerprint


def make_pair(where: Path) -> tuple[Path, Path]:
    """Writes both into a folder; returns the model's path and the adapter's."""
    model = tiny.build_model("llama")
    tiny.save(where / "model")
    base = fingerprint(model)
    rows = HeadGeometry.of(model).rows(1, 2).query
    before = {rows: read_weight_rows(model, rows)}
    with torch.no_grad():
        model.get_submodule(rows.module).weight[rows.start : rows.stop] *= -2
    Adapter.between(before, model, base).save(where / "adapter", "tiny")
    return where / "model", where / "adapter"
