"""Low-rank changes of linear modules (LoRA), of all outputs or of the rows of some heads."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from nasalign.head_rows.change import Change, trained_dtype
from nasalign.head_rows.rows import sharing
from nasalign.models.head_layouts import RowSlice, weight_of

RANK, ALPHA = 8, 16
BETAS = (0.9, 0.95)
"""Of AdamW: a run is of some hundred steps."""
WARMUP_STEPS = 10
GRADIENT_NORM = 1.0

Factors: TypeAlias = dict[str, tuple[Tensor, Tensor]]
"""By name of a linear module, A [r, in] and B [out, r]; B A is added to its weight."""
Outputs: TypeAlias = Mapping[str, Tensor | None]
"""By name of a linear module, which of its outputs may change, bool [out]; None for all."""


class LowRankChange(Change):
    """What LoRA adds to linear modules: ``scale * up @ down @ x``, scale being alpha / r.

    Args:
        model: its type and devices are taken.
        outputs: the modules.
        seed: of the first weights; the change is none until it is trained, since ``up`` is 0.
        inputs: of some modules, which inputs the change may depend on, bool [in]; else all.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        outputs: Outputs,
        seed: int,
        inputs: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.outputs, self.inputs = dict(outputs), dict(inputs or {})
        dtype = trained_dtype(model)
        self.down, self.up = nn.ParameterList(), nn.ParameterList()  # [r, in] and [out, r] each
        for name in self.outputs:
            weight = weight_of(model, name)
            down = torch.empty(RANK, weight.shape[1], dtype=dtype)
            nn.init.kaiming_uniform_(down, a=math.sqrt(5), generator=generator)
            up = torch.zeros(weight.shape[0], RANK, dtype=dtype)
            self.down.append(nn.Parameter(down.to(weight.device)))
            self.up.append(nn.Parameter(up.to(weight.device)))

    def hooks(self, model: PreTrainedModel) -> Iterator[RemovableHandle]:
        """Add to the outputs of the modules, and of those that have the weight of one."""
        named = {model.get_submodule(name) for name in self.outputs}
        for place, name in enumerate(self.outputs):
            own = model.get_submodule(name)
            for module in [own, *(one for one in sharing(model, name) if one not in named)]:
                yield module.register_forward_hook(self._hook(place, name))

    @property
    def factors(self) -> Factors:
        """A [r, in] and B [out, r] of each module, on the CPU."""
        found = {}
        parts = zip(self.outputs.items(), self.down, self.up, strict=True)
        for (name, changing), down, up in parts:
            a, b = down.detach().cpu(), up.detach().cpu() * (ALPHA / RANK)
            if name in self.inputs:
                a = a * self.inputs[name]
            if changing is not None:
                b = b * changing[:, None]
            found[name] = a, b
        return found

    def _hook(self, place: int, name: str) -> Callable[..., Tensor]:
        changing, reading = self.outputs[name], self.inputs.get(name)

        def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            down, up = self.down[place], self.up[place]
            hidden = inputs[0].to(down.dtype)
            if reading is not None:
                hidden = hidden * reading.to(hidden.device)
            change = functional.linear(functional.linear(hidden, down), up) * (ALPHA / RANK)
            if changing is not None:
                change = change * changing.to(change.device)
            return self.changed(output, change)

        return add

    def changed(self, output: Tensor, change: Tensor) -> Tensor:
        """Return the output of a module with its change, in the output's own type."""
        return (output + change).to(output.dtype)


def changed_rows(before: Mapping[RowSlice, Tensor], factors: Factors) -> dict[RowSlice, Tensor]:
    """Return rows with what A and B of their module add to them, rounded to the rows' dtype.

    The product is of float64: where B only selects rows of A, as in an exact adapter, it is these
    to the bit.
    """
    after = {}
    for where, rows in before.items():
        a, b = factors[where.module]
        dtype = torch.promote_types(rows.dtype, torch.float32)
        added = (b[where.start : where.stop].double() @ a.double()).to(dtype)
        after[where] = (rows.to(dtype) + added.to(rows.device)).to(rows.dtype)
    return after


def outputs_of(model: PreTrainedModel, slices: Iterable[RowSlice]) -> Outputs:
    """Return the modules that some rows are in, each with the outputs that these rows make."""
    changing: dict[str, Tensor] = {}
    for where in slices:
        count = weight_of(model, where.module).shape[0]
        mask = changing.setdefault(where.module, torch.zeros(count, dtype=torch.bool))
        mask[where.start : where.stop] = True
    return {name: None if mask.all() else mask for name, mask in changing.items()}
