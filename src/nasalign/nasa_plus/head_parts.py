"""What nasa+ changes of the heads that it tunes."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nasalign.config import Settings
from nasalign.head_rows.rows import head_slices, joined
from nasalign.models.geometry import HeadGeometry
from nasalign.models.head_layouts import RowSlice, out_features, weight_of
from nasalign.models.output_projections import attention_outputs
from nasalign.nas.heads import Head

Shares = dict[str, Tensor]
"""By name of a module, which share each of N heads has in the change of each of its outputs (or
inputs), [out, N] (or [in, N])."""


def joint_slices(
    model: PreTrainedModel, heads: Sequence[Head], settings: Settings
) -> tuple[list[RowSlice], dict[str, Tensor]]:
    """Return the rows that tuning some heads changes.

    They are those of their queries and, by ``k_scope``, keys, and with ``joint_outputs`` those of
    their values, and all of the output projections of their layers, in the columns of these heads
    alone. Quantised weights stay.

    Returns:
        The rows; and by name of an output projection its columns that may change, bool [in].
    """
    rows, columns = head_shares(model, heads, settings)
    slices = [
        RowSlice(name, place, place + 1)
        for name, shares in rows.items()
        for place in shares.any(dim=1).nonzero()[:, 0].tolist()
    ]
    whole = [RowSlice(name, 0, model.get_submodule(name).out_features) for name in columns]
    return joined([*slices, *whole]), {name: one.any(dim=1) for name, one in columns.items()}


def head_shares(
    model: PreTrainedModel, heads: Sequence[Head], settings: Settings
) -> tuple[Shares, Shares]:
    """Return whose the rows and columns are that tuning N heads changes.

    Rows that several of the heads have, such as the keys of a group, are theirs in equal shares.

    Returns:
        The shares in rows, and in columns of output projections, float64; 0 in what stays.
    """
    geometry, count = HeadGeometry.of(model), len(heads)
    rows: Shares = {}
    columns: Shares = {}

    def add(where: RowSlice, own: int) -> None:
        size = out_features(model.get_submodule(where.module))
        _part(rows, where.module, size, count)[where.start : where.stop, own] = 1

    for own, (layer, head, _) in enumerate(heads):
        for where in head_slices(geometry, layer, head, settings.k_scope):
            add(where, own)
    projections = attention_outputs(model) if settings.joint_outputs else {}
    for own, (layer, head, _) in enumerate(heads if settings.joint_outputs else ()):
        first = geometry.firsts[layer]  # whose weights it has
        value = geometry.rows(layer, head).value
        if value and weight_of(model, value.module).is_floating_point():
            add(value, own)
        if name := projections.get(first):
            part = _part(columns, name, model.get_submodule(name).in_features, count)
            part.view(geometry.attention[first].heads, -1, count)[head, :, own] = 1  # type: ignore[union-attr]
    for shares in (rows, columns):
        for name, part in shares.items():
            shares[name] = part / part.sum(dim=1, keepdim=True).clamp(min=1)
    return rows, columns


def _part(shares: Shares, name: str, size: int, count: int) -> Tensor:
    return shares.setdefault(name, torch.zeros(size, count, dtype=torch.float64))
