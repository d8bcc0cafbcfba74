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
from nasalign.models.output_projections import attention_outputs, plain_linear
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
    linear, names = plain_linear(model), layer_names(model)
    found = []
    for layer, out in every_attention_output(model).items():
        ends = (f"{names[layer]}.mlp.{one}" for one in ("down_proj", "dense_4h_to_h"))
        found.append((out, _one_of(model, linear, ends)))
    return found


def every_attention_output(model: PreTrainedModel) -> dict[int, str]:
    """Return the output projection of the attention of each layer that has heads.

    Raises:
        ModelError: a layer has none.
    """
    found = attention_outputs(model)
    if found.keys() != HeadGeometry.of(model).modules.keys():
        raise _nothing(model)
    return found


def _one_of(model: PreTrainedModel, linear: Set[str], names: Iterable[str]) -> str:
    for name in names:
        if name in linear:
            return name
    raise _nothing(model)


def _nothing(model: PreTrainedModel) -> ModelError:
    return ModelError(
        f"Nothing can be masked or edited in {type(model).__name__}: its layers lack a plain "
        "linear output projection of attention or of the feed-forward network."
    )
