"""Masking parts of a model, at its output projections.

A head is a block of columns of the attention's output projection, and a feed-forward vector is one
column of the other. An input of 0 there does what columns of 0 in the weight would do, without
writing a weight.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
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


def attention_outputs(model: PreTrainedModel) -> dict[int, str]:
    """Return the name of the output projection of the attention of each layer that has heads.

    Its input is the outputs of the heads, one block of equal size for each.

    Raises:
        ModelError: a layer has no such linear module.
    """
    linear = _linear(model)
    return {
        layer: _one_of(model, linear, (f"{attention}.o_proj", f"{attention}.dense"))
        for layer, attention in HeadGeometry.of(model).modules.items()
    }


def projections(model: PreTrainedModel) -> list[tuple[str, str]]:
    """Return the names of both output projections, of attention and of feed-forward.

    They are those of each layer that has heads.

    Raises:
        ModelError: a layer has no such linear modules, as in a mixture of experts.
    """
    linear, names = _linear(model), layer_names(model)
    found = []
    for layer, out in attention_outputs(model).items():
        ends = (f"{names[layer]}.mlp.{one}" for one in ("down_proj", "dense_4h_to_h"))
        found.append((out, _one_of(model, linear, ends)))
    return found


def _linear(model: PreTrainedModel) -> set[str]:
    """Linear modules whose weights can be read: those of a quantised model are packed integers."""
    return {
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.weight.is_floating_point()
    }


def _one_of(model: PreTrainedModel, linear: Set[str], names: Iterable[str]) -> str:
    for name in names:
        if name in linear:
            return name
    raise ModelError(
        f"Nothing can be masked or edited in {type(model).__name__}: its layers lack a plain "
        "linear output projection of attention or of the feed-forward network."
    )
