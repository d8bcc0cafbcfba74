"""LoRA (Hu et al., 2022): low-rank changes of linear layers, of all of them or of queries and keys.

They are PEFT's: the same first weights by distribution, and ``scale * up @ down @ x`` added to what
a module puts out. They are made by hooks, as every change of a rival is (``Change``).
"""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from nasalign.adapters.adapter import rows_digest
from nasalign.adapters.adapter_checks import Changes
from nasalign.adapters.adapter_file import Origin, Reduction, write_adapter
from nasalign.head_rows.rows import joined, read_weight_rows
from nasalign.models.geometry import HeadGeometry, text_model
from nasalign.models.head_layouts import RowSlice, weight_of
from nasalign.rivals.change import Change, trained_dtype
from nasalign.rivals.rate_search import RateSearch
from nasalign.rivals.rival import Fitted, Material, Rival
from nasalign.session import Session

RANK, ALPHA = 8, 16

Outputs = Mapping[str, Tensor | None]
"""By name of a linear module, which of its outputs may change, bool [out]; None for all."""


class LowRankChange(Change):
    """What LoRA adds to linear modules: ``scale * up @ down @ x``, scale being alpha / r.

    Args:
        model: its type and devices are taken.
        outputs: the modules.
        seed: of the first weights; the change is none until it is trained, since ``up`` is 0.
    """

    def __init__(self, model: PreTrainedModel, outputs: Outputs, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.outputs, dtype = dict(outputs), trained_dtype(model)
        self.down, self.up = nn.ParameterList(), nn.ParameterList()  # [r, in] and [out, r] each
        for name in self.outputs:
            weight = weight_of(model, name)
            down = torch.empty(RANK, weight.shape[1], dtype=dtype)
            nn.init.kaiming_uniform_(down, a=math.sqrt(5), generator=generator)
            up = torch.zeros(weight.shape[0], RANK, dtype=dtype)
            self.down.append(nn.Parameter(down.to(weight.device)))
            self.up.append(nn.Parameter(up.to(weight.device)))

    def hooks(self, model: PreTrainedModel) -> Iterator[RemovableHandle]:
        """Add to the outputs of the modules."""
        for place, name in enumerate(self.outputs):
            yield model.get_submodule(name).register_forward_hook(self._hook(place, name))

    def _hook(self, place: int, name: str) -> Callable[..., Tensor]:
        changing = self.outputs[name]

        def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            down, up = self.down[place], self.up[place]
            hidden = inputs[0].to(down.dtype)
            change = functional.linear(functional.linear(hidden, down), up) * (ALPHA / RANK)
            if changing is not None:
                change = change * changing.to(change.device)
            return self.changed(output, change)

        return add

    def changed(self, output: Tensor, change: Tensor) -> Tensor:
        """Return the output of a module with its change, in the output's own type."""
        return (output + change).to(output.dtype)


def all_linear(model: PreTrainedModel) -> Outputs:
    """Return all linear modules of the text model but the output embedding."""
    text, output = text_model(model)[0], model.get_output_embeddings()
    return {
        name: None
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not output and name.startswith(text)
    }


def queries_and_keys(model: PreTrainedModel) -> Outputs:
    """Return the modules of queries and keys; where they make something else too, not that."""
    geometry = HeadGeometry.of(model)
    changing: dict[str, Tensor] = {}
    for place in geometry.places:
        rows = geometry.rows(*place)
        for part in (rows.query, rows.key):
            if part:
                count = weight_of(model, part.module).shape[0]
                mask = changing.setdefault(part.module, torch.zeros(count, dtype=torch.bool))
                mask[part.start : part.stop] = True
    return {name: None if mask.all() else mask for name, mask in changing.items()}


def attention_linear(model: PreTrainedModel) -> Outputs:
    """Return the linear modules inside of attention: queries, keys, values and output."""
    inside = tuple(f"{name}." for name in HeadGeometry.of(model).modules.values())
    return {name: None for name in all_linear(model) if name.startswith(inside)}


def low_rank_changes(change: LowRankChange) -> Changes:
    """Return A and B of each module, whose product is what is added to its weight."""
    changes: Changes = {}
    factors = zip(change.outputs.items(), change.down, change.up, strict=True)
    for (name, changing), down, up in factors:
        scaled = up.detach().cpu() * (ALPHA / RANK)
        if changing is not None:
            scaled = scaled * changing[:, None]
        changes[name] = down.detach().cpu(), scaled
    return changes


def write_low_rank(folder: Path, change: LowRankChange, session: Session) -> None:
    """Write a change as an adapter, which any PEFT runtime reads, and ``load_adapter``.

    To the latter it is one of reduced rank that lacks nothing.
    """
    model, changes = session.model, low_rank_changes(change)
    rows = {
        name: list(range(len(b))) if mask is None else mask.nonzero()[:, 0].tolist()
        for (name, mask), (_, b) in zip(change.outputs.items(), changes.values(), strict=True)
    }
    slices = joined(RowSlice(name, row, row + 1) for name, own in rows.items() for row in own)
    before = rows_digest({where: read_weight_rows(model, where) for where in slices})
    dtype = str(model.dtype).removeprefix("torch.")
    whole = Reduction(RANK, 0.0, dict.fromkeys(changes, 0.0), rows)
    origin = Origin(session.fingerprint, before, dtype, whole)
    write_adapter(folder, changes, origin, model.name_or_path)


def _lora(name: str, which: str, outputs: Callable[[PreTrainedModel], Outputs]) -> Rival:
    title = f"LoRA on {which} (Hu et al., 2022)"

    def fit(material: Material) -> Fitted:
        search, model = RateSearch(material, name, title), material.model
        changing, seed = outputs(model), material.settings.seed

        def about(trained: LowRankChange) -> dict[str, str]:
            if material.run.folder:
                write_low_rank(material.run.folder / "adapter", trained, material.session)
            return {}

        return search.best(lambda: LowRankChange(model, changing, seed), about)

    return Rival(name, title, "an adapter, or merged weights", False, fit)


LORA_ALL = _lora("lora-all", "all linear layers", all_linear)
LORA_ATTENTION = _lora(
    "lora-attention", "attention: queries, keys, values, output", attention_linear
)
LORA_QK = _lora("lora-qk", "queries and keys", queries_and_keys)
