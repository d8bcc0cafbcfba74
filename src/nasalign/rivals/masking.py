"""Masking parts of a model, at its output projections.

A head is a block of columns of the attention's output projection, and a feed-forward vector is one
column of the other. An input of 0 there does what columns of 0 in the weight would do, without
writing a weight.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from nasalign.errors import ModelError
from nasalign.models.geometry import HeadGeometry
from nasalign.rivals.observed import layer_names

Columns = Mapping[str, Sequence[int]]
"""By name of a linear module, columns of its weight, that is entries of its input."""


@contextmanager
def masked(model: PreTrainedModel, columns: Columns) -> Iterator[None]:
    """Set some entries of the input of linear modules to 0, at every position, in the context."""

    def hook(own: Sequence[int]) -> Any:
        def mask(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            index = torch.tensor(own, device=inputs[0].device)
            return (inputs[0].index_fill(-1, index, 0.0), *inputs[1:])

        return mask

    with ExitStack() as hooks:
        for name, own in columns.items():
            handle = model.get_submodule(name).register_forward_pre_hook(hook(own))
            hooks.callback(handle.remove)
        yield


def projections(model: PreTrainedModel) -> list[tuple[str, str]]:
    """Return the names of both output projections, of attention and of feed-forward.

    They are those of each layer that has heads.

    Raises:
        ModelError: a layer has no such linear modules, as in a mixture of experts.
    """
    linear = {  # with weights that can be read: those of a quantised model are packed integers
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.weight.is_floating_point()
    }
    found, names = [], layer_names(model)
    for layer, attention in HeadGeometry.of(model).modules.items():
        out = linear & {f"{attention}.o_proj", f"{attention}.dense"}
        down = linear & {f"{names[layer]}.mlp.{one}" for one in ("down_proj", "dense_4h_to_h")}
        if not out or not down:
            raise ModelError(
                f"Nothing can be masked in {type(model).__name__}: its layers lack a plain linear "
                "output projection of attention or of the feed-forward network."
            )
        found.append((*out, *down))
    return found
