"""A head's query and key rows as float32 parameters, the only ones that tuning can change."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from nasalign.config import KeyScope
from nasalign.models.geometry import HeadGeometry
from nasalign.models.head_layouts import RowSlice, weight_of


def read_weight_rows(model: PreTrainedModel, where: RowSlice) -> Tensor:
    """Return a copy of rows [D, in] of a weight, in its dtype."""
    return weight_of(model, where.module)[where.start : where.stop].detach().clone()


@torch.no_grad()
def write_rows(model: PreTrainedModel, where: RowSlice, rows: Tensor) -> None:
    """Write rows [D, in] into the model's weight, rounded to its dtype."""
    weight = weight_of(model, where.module)
    weight[where.start : where.stop] = rows.to(weight.device, weight.dtype)


def head_slices(
    geometry: HeadGeometry, layer: int, head: int, k_scope: KeyScope
) -> tuple[RowSlice, ...]:
    """Return the rows that tuning a head changes: of its query and, by scope, its group's key.

    A layer that takes the keys of an earlier one has none of its own, so only the query changes.
    """
    rows = geometry.rows(layer, head)
    return (rows.query, rows.key) if k_scope == "group" and rows.key else (rows.query,)


def joined(slices: Iterable[RowSlice]) -> list[RowSlice]:
    """Return slices that cover the same rows once each, neighbours in one."""
    rows: dict[str, set[int]] = {}
    for where in slices:
        rows.setdefault(where.module, set()).update(range(where.start, where.stop))
    found: list[RowSlice] = []
    for module, mine in rows.items():
        starts = sorted(row for row in mine if row - 1 not in mine)
        stops = sorted(row + 1 for row in mine if row + 1 not in mine)
        found += [RowSlice(module, *ends) for ends in zip(starts, stops, strict=True)]
    return found


def sharing(model: PreTrainedModel, module: str) -> list[nn.Module]:
    """Return all modules that have the weight of a module (layers of Zamba share theirs)."""
    own = model.get_submodule(module).weight
    return [one for one in model.modules() if getattr(one, "weight", None) is own]


class TunableRows:
    """Rows of a model as float32 parameters (float64 of a float64 model); a context manager.

    Inside, each module computes the outputs of these rows from the parameters, so that a loss has
    gradients for them and for nothing else. It does so in the dtype of the parameters: rounded to
    bfloat16 first, most rows would not move at all in the first epochs (benchmarks/bf16_rows.py).
    The weight itself changes only by ``write``. The model's own parameters must not require
    gradients.
    """

    def __init__(self, model: PreTrainedModel, slices: Iterable[RowSlice]) -> None:
        self.model = model
        self.original = {where: read_weight_rows(model, where) for where in slices}
        self.parameters = {
            where: nn.Parameter(rows.to(torch.promote_types(rows.dtype, torch.float32), copy=True))
            for where, rows in self.original.items()
        }
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> "TunableRows":
        self._hooks += self.hooks()
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def hooks(self) -> Iterator[RemovableHandle]:
        """Put in the hooks that compute the outputs, one after the other."""
        for where in self.parameters:
            for module in sharing(self.model, where.module):
                yield module.register_forward_hook(self._hook(where))

    @property
    def rounds(self) -> bool:
        """Whether ``write`` rounds: the weights have a narrower dtype than the parameters."""
        return any(
            self.parameters[where].dtype != rows.dtype for where, rows in self.original.items()
        )

    def copies(self) -> list[Tensor]:
        """Return copies of the parameters, in the order of the slices."""
        return [rows.detach().clone() for rows in self.parameters.values()]

    def sizes(self) -> list[float]:
        """Return the root mean square of the original rows of each slice."""
        return [float(rows.double().square().mean().sqrt()) for rows in self.original.values()]

    def write(self) -> None:
        """Write the parameters into the model's weights."""
        for where, rows in self.parameters.items():
            write_rows(self.model, where, rows.detach())

    def restore(self) -> None:
        """Put the original rows back, to the bit, in parameters and weights."""
        for where, rows in self.original.items():
            write_rows(self.model, where, rows)
            self.parameters[where].data.copy_(rows)

    def _hook(self, where: RowSlice) -> Callable[..., Tensor]:
        def replace(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            hidden, rows = inputs[0], self.parameters[where]
            bias = getattr(module, "bias", None)
            bias = None if bias is None else bias[where.start : where.stop].to(rows.dtype)
            fresh = functional.linear(hidden.to(rows.dtype), rows, bias)  # [B, T, D]
            index = torch.arange(where.start, where.stop, device=output.device)
            return output.index_copy(-1, index, fresh.to(output.dtype))

        return replace
