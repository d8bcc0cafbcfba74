"""Edits of the outputs of attention heads: LoFiT and JoLA, the published neighbours of NASA.

**LoFiT** (F. Yin, X. Ye and G. Durrett, "LoFiT: Localized Fine-tuning on LLM Representations",
NeurIPS 2024) trains a vector of scales ``1 + A`` for the output of every head, with a penalty on
the sum of ``|A|``; the heads of largest norm of A are chosen, A is dropped, and an offset is
trained for the output of each chosen head.

**JoLA** (W. Lai, A. Fraser and I. Titov, "Joint Localization and Activation Editing for
Low-Resource Fine-Tuning", ICML 2025) trains, for every head at once, an offset and a vector of
scales, ``(1 + g_m m) z + g_a a``, each behind a gate of the hard-concrete distribution (C. Louizos,
M. Welling and D. Kingma, 2018), with a penalty on the gates that are open.

From the released code of both: the temperature and limits of the gates, the weights of the
penalties, and a tenth of all heads in LoFiT. Ours: vectors begin at 0 rather than at a noise of
0.001, JoLA's penalty has one weight throughout, and gates are drawn once a step. Both train for
more epochs than the search of ``rate_search``, which is the same for all rivals, gives them.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from nasalign.head_rows.change import Change, trained_dtype
from nasalign.models.geometry import HeadGeometry
from nasalign.rivals.masking import every_attention_output
from nasalign.rivals.rate_search import RateSearch
from nasalign.rivals.rival import Fitted, Material, Rival

ONE_OF = 10
"""LoFiT changes one head in so many."""
SCALE_PENALTY = 1e-3
SELECTION_RATE = 5e-3
"""Learning rate of LoFiT's scales, for which nothing is searched."""
GATE_PENALTY = 0.1
TEMPERATURE, LOW, HIGH = 0.33, -0.1, 1.1
"""Of the hard-concrete distribution: its temperature, and the limits it is stretched to."""

Place = tuple[int, int]
"""A layer and a head."""


class _HeadChange(Change):
    """Changes the outputs of heads where they enter the output projection of the attention.

    Attributes:
        heads: number of heads by layer, of the layers that have some.
        sizes: width of a head's output by layer.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        geometry = HeadGeometry.of(model)
        self.modules_of = every_attention_output(model)
        self.heads = {layer: geometry.attention[layer].heads for layer in self.modules_of}  # type: ignore[union-attr]
        self.sizes, self.devices = dict[int, int](), dict[int, torch.device]()
        for layer, name in self.modules_of.items():
            weight = model.get_submodule(name).weight
            self.sizes[layer] = weight.shape[1] // self.heads[layer]
            self.devices[layer] = weight.device
        self.dtype = trained_dtype(model)

    def vectors(self, layer: int, count: int | None = None) -> nn.Parameter:
        """Return zeros [count, size] to train, for all heads of a layer unless given."""
        shape = self.heads[layer] if count is None else count, self.sizes[layer]
        return nn.Parameter(torch.zeros(shape, dtype=self.dtype, device=self.devices[layer]))

    def layers(self) -> list[int]:
        """Layers in which something is changed."""
        return list(self.modules_of)

    def edited(self, layer: int, outputs: Tensor) -> Tensor:
        """Return the changed outputs of the heads of a layer, [..., H, size]."""
        raise NotImplementedError

    def hooks(self, model: PreTrainedModel) -> Iterator[RemovableHandle]:
        """Change what enters the output projections."""

        def hook(layer: int) -> Any:
            def edit(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
                hidden = inputs[0]  # [..., H * size]
                outputs = hidden.to(self.dtype).unflatten(-1, (self.heads[layer], -1))
                return (self.edited(layer, outputs).flatten(-2).to(hidden.dtype), *inputs[1:])

            return edit

        for layer in self.layers():
            module = model.get_submodule(self.modules_of[layer])
            yield module.register_forward_pre_hook(hook(layer))


class HeadScales(_HeadChange):
    """LoFiT's first step: ``(1 + A) z`` for every head."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model)
        self.scales = nn.ParameterDict({str(one): self.vectors(one) for one in self.layers()})

    def edited(self, layer: int, outputs: Tensor) -> Tensor:
        """Scale the outputs of all heads of a layer."""
        return outputs * (1 + self.scales[str(layer)])

    def penalty(self) -> Tensor:
        """Return the weighted sum of |A|."""
        parts = [one.abs().sum() for one in self.scales.values()]
        return SCALE_PENALTY * torch.stack([part.to(parts[0].device) for part in parts]).sum()

    def largest(self, count: int) -> list[Place]:
        """Return the heads of largest norm of A; among equals the lower layer and head."""
        norms = {
            (int(layer), head): float(norm)
            for layer, one in self.scales.items()
            for head, norm in enumerate(one.detach().norm(dim=-1).tolist())
        }
        return sorted(norms, key=lambda place: (-norms[place], place))[:count]


class HeadOffsets(_HeadChange):
    """LoFiT's second step: ``z + v`` for the chosen heads alone."""

    def __init__(self, model: PreTrainedModel, places: Sequence[Place]) -> None:
        super().__init__(model)
        self.chosen: dict[int, list[int]] = {}
        for layer, head in sorted(places):
            self.chosen.setdefault(layer, []).append(head)
        self.offsets = nn.ParameterDict(
            {str(layer): self.vectors(layer, len(own)) for layer, own in self.chosen.items()}
        )

    def layers(self) -> list[int]:
        """Layers of the chosen heads."""
        return list(self.chosen)

    def edited(self, layer: int, outputs: Tensor) -> Tensor:
        """Add the offsets of the chosen heads of a layer."""
        own = self.offsets[str(layer)]
        places = torch.tensor(self.chosen[layer], device=own.device)
        every = torch.zeros(outputs.shape[-2:], dtype=own.dtype, device=own.device)
        return outputs + every.index_copy(0, places, own)


class GatedEdits(_HeadChange):
    """JoLA: ``(1 + g_m m) z + g_a a`` for every head."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model)
        layers = [str(one) for one in self.layers()]
        self.scales, self.offsets = (
            nn.ParameterDict({one: self.vectors(int(one)) for one in layers}) for _ in range(2)
        )
        self.log_gates = nn.ParameterDict(  # of the scales, then of the offsets: [2, H]
            {
                str(one): torch.zeros(
                    2, self.heads[one], dtype=self.dtype, device=self.devices[one]
                )
                for one in self.layers()
            }
        )
        self.noise: dict[int, Tensor] = {}

    def draw(self, generator: torch.Generator) -> None:
        """Draw the uniform noise that opens and closes the gates in a training step."""
        for layer, heads in self.heads.items():
            noise = torch.rand(2, heads, generator=generator, dtype=torch.float64)
            self.noise[layer] = noise.clamp(1e-6, 1 - 1e-6).to(self.devices[layer], self.dtype)

    def gates(self, layer: int) -> Tensor:
        """Return the gates of a layer, [2, H] in [0, 1]; drawn in training, else without noise."""
        logits = self.log_gates[str(layer)]
        if self.training:
            logits = (self.noise[layer].logit() + logits) / TEMPERATURE
        return (logits.sigmoid() * (HIGH - LOW) + LOW).clamp(0, 1)

    def edited(self, layer: int, outputs: Tensor) -> Tensor:
        """Scale and shift the outputs of the heads of a layer, as far as their gates are open."""
        of_scale, of_offset = self.gates(layer)[..., None]  # [H, 1] each
        scales, offsets = self.scales[str(layer)], self.offsets[str(layer)]
        return outputs * (1 + of_scale * scales) + of_offset * offsets

    def penalty(self) -> Tensor:
        """Return the weighted mean over heads of the expected number of open gates."""
        closed = TEMPERATURE * torch.tensor(-LOW / HIGH).log().item()
        parts = [(one - closed).sigmoid().sum() for one in self.log_gates.values()]
        total = torch.stack([part.to(parts[0].device) for part in parts]).sum()
        return GATE_PENALTY * total / sum(self.heads.values())

    def open_gates(self) -> dict[str, int]:
        """Return how many heads are scaled and how many are shifted after training."""
        opened = [(self.gates(layer) > 0).sum(dim=1).tolist() for layer in self.layers()]
        scaled, shifted = (sum(own) for own in zip(*opened, strict=True))
        return {"heads scaled": scaled, "heads shifted": shifted}


def _lofit(material: Material) -> Fitted:
    """Choose heads by scales that are trained for some steps, then train offsets of theirs."""
    search, model = RateSearch(material, "lofit", _LOFIT), material.model
    scales = HeadScales(model)
    search.trained_first(scales, SELECTION_RATE)
    places = scales.largest(max(1, len(HeadGeometry.of(model).places) // ONE_OF))
    heads = [list(place) for place in places]
    return search.best(lambda: HeadOffsets(model, places), lambda _: {"heads": heads})


def _jola(material: Material) -> Fitted:
    search, model = RateSearch(material, "jola", _JOLA), material.model
    return search.best(lambda: GatedEdits(model), lambda change: change.open_gates())


_LOFIT, _JOLA = "LoFiT (Yin et al., 2024)", "JoLA (Lai et al., 2025)"
_SERVING = "vectors at the outputs of heads"
LOFIT = Rival("lofit", _LOFIT, f"{_SERVING}, or biases of output projections", False, _lofit)
JOLA = Rival("jola", _JOLA, f"{_SERVING}, or merged weights and biases", False, _jola)
