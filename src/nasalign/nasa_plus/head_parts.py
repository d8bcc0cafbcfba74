"""What nasa+ changes of the heads that it tunes."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nasalign.config import Settings
from nasalign.head_rows.rows import head_slices, joined
from nasalign.models.geometry import HeadGeometry
from nasalign.models.head_layouts import RowSlice, weight_of
from nasalign.models.output_projections import attention_outputs
from nasalign.nas.heads import Head


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
    geometry = HeadGeometry.of(model)
    slices = [one for head in heads for one in head_slices(geometry, *head[:2], settings.k_scope)]
    columns: dict[str, Tensor] = {}
    if settings.joint_outputs:
        projections = attention_outputs(model)
        for layer, head, _ in heads:
            first = geometry.firsts[layer]  # whose weights it has
            value, name = geometry.rows(layer, head).value, projections.get(first)
            if value and weight_of(model, value.module).is_floating_point():
                slices.append(value)
            if name:
                width = model.get_submodule(name).in_features
                mask = columns.setdefault(name, torch.zeros(width, dtype=torch.bool))
                mask.view(geometry.attention[first].heads, -1)[head] = True  # type: ignore[union-attr]
    whole = [RowSlice(name, 0, model.get_submodule(name).out_features) for name in columns]
    return joined([*slices, *whole]), columns
