"""The attention heads of a model: in which layers they are, and which rows make each.

The heads of a model are those of its layers that have softmax attention over the prompt through
``transformers.AttentionInterface``. A layer of linear attention, of a state space, of convolution
or of attention to something else than the prompt has none, and layers may differ in number and
size of heads. Of a multimodal model, the layers are those of its text model.
"""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from nasalign.models.classes import empty_model, unsupported
from nasalign.models.head_layouts import (
    LayerHeads,
    LayoutError,
    RowSlice,
    has_own_softmax,
    read_layout,
    reads_interface,
    says_what_it_attends,
)


@dataclass(frozen=True)
class HeadRows:
    """Where the query rows of a head lie, and the key and value rows of its group.

    Key and value are None in a layer that takes those of an earlier layer (Gemma 3n, Gemma 4):
    their rows are those of heads of that layer, and no other head's.
    """

    query: RowSlice
    key: RowSlice | None
    value: RowSlice | None


@dataclass(frozen=True)
class HeadGeometry:
    """The attention heads of a model.

    Attributes:
        attention: the heads of each of L layers; None where a layer has none.
        blocks: module names of the L layers; empty if what enters a layer enters no module.
        firsts: for each layer, the first layer whose attention has the same rows (the layers of
            Zamba share theirs); the layer itself where its rows are its own.
    """

    attention: tuple[LayerHeads | None, ...]
    blocks: tuple[str, ...]
    firsts: tuple[int, ...]

    @property
    def layers(self) -> int:
        """Number of layers L."""
        return len(self.attention)

    @cached_property
    def heads(self) -> int:
        """Number of query heads H of the layer with most."""
        return max(own.heads for own in self.attention if own)

    @cached_property
    def places(self) -> list[tuple[int, int]]:
        """Layer and head of each of the model's heads."""
        known = ((layer, own) for layer, own in enumerate(self.attention) if own)
        return [(layer, head) for layer, own in known for head in range(own.heads)]

    @cached_property
    def modules(self) -> dict[int, str]:
        """Name of the attention module of each layer that has heads."""
        return {layer: own.module for layer, own in enumerate(self.attention) if own}

    def blank(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return zeros [L, H] with NaN where there is no head."""
        blank = torch.full((self.layers, self.heads), torch.nan, dtype=dtype)
        for place in self.places:
            blank[place] = 0
        return blank

    def rows(self, layer: int, head: int) -> HeadRows:
        """Return the rows of a head; in grouped-query attention the key rows are its group's.

        Layers that share their rows have those of the first of them.
        """
        own = self.attention[self.firsts[layer]] if 0 <= layer < self.layers else None
        if own is None or not 0 <= head < own.heads:
            raise IndexError(f"no head ({layer}, {head}) among {self.layers} x {self.heads}")
        group = head // (own.heads // own.groups)
        key, value = (part.of(group) if part else None for part in (own.key, own.value))
        return HeadRows(own.query.of(head), key, value)

    @classmethod
    def of(cls, model: PreTrainedModel) -> "HeadGeometry":
        """Read the geometry off a model's modules, or raise ModelError if it is not supported."""
        try:
            return _read(model)
        except LayoutError as error:
            raise unsupported(type(model).__name__, str(error)) from error


def check_supported(config: PretrainedConfig) -> int:
    """Return the number of parameters of a supported model, by its configuration alone.

    Build the modules without memory, which takes a fraction of a second for any size. Raise
    ModelError if the architecture does not fit, ValueError if the configuration contradicts itself.
    """
    model = empty_model(config)
    HeadGeometry.of(model)
    return sum(weight.numel() for weight in model.parameters())


def text_model(model: PreTrainedModel) -> tuple[str, nn.Module]:
    """Return the name and the module of the decoder of text inside a model."""
    decoder = model.get_decoder()
    if isinstance(decoder, nn.Linear):  # ModernBERT calls its output projection so
        decoder = model.base_model
    return next((name, one) for name, one in model.named_modules() if one is decoder)


def _read(model: PreTrainedModel) -> HeadGeometry:
    text, decoder = text_model(model)
    stack, depth = _stack(decoder)
    stack = f"{text}.{stack}" if text else stack
    found = _attentions(model.get_submodule(stack))
    by_block: dict[int, list[nn.Module]] = defaultdict(list)
    for name, module in found.items():
        by_block[int(name.partition(".")[0])].append(module)
    layers = {block: own[0] for block, own in by_block.items()}
    blocks = tuple(f"{stack}.{index}" for index in range(depth))
    if len(layers) != len(found):
        # Each attention module of a block counts as a layer of its own (LongCat).
        layers = {_index(one): one for one in found.values()}
        depth, blocks = max(layers) + 1, ()
    if len(layers) != len(found):
        raise LayoutError("some of its layers have several attention modules")
    names = {id(module): f"{stack}.{name}" for name, module in found.items()}
    read = {layer: read_layout(names[id(one)], one) for layer, one in layers.items()}
    known = {layer: own for layer, own in read.items() if own}
    if len(known) < len(read):
        which = f"only {len(known)} of its {depth}" if known else f"none of its {depth}"
        raise LayoutError(f"{which} layers have q and k projections that we know")
    firsts, owners = list(range(depth)), dict[int, int]()
    for layer, own in sorted(known.items()):
        weight = model.get_submodule(own.query.module).weight
        firsts[layer] = owners.setdefault(id(weight), layer)
    return HeadGeometry(tuple(map(known.get, range(depth))), blocks, tuple(firsts))


def _index(module: nn.Module) -> int:
    """The layer that an attention module says it is of."""
    index = getattr(module, "layer_idx", None)
    if not isinstance(index, int):
        raise LayoutError("some of its layers have several attention modules")
    return index


def _stack(decoder: nn.Module) -> tuple[str, int]:
    """Return the name of the list of layers that attention is in, and its length."""
    lists = {name: one for name, one in decoder.named_modules() if isinstance(one, nn.ModuleList)}
    reading = [
        min((one for one in lists if name.startswith(f"{one}.")), key=len, default="")
        for name, module in decoder.named_modules()
        if reads_interface(module) or has_own_softmax(module)
    ]
    # A list of the decoder's own goes before those of encoders of images or sound inside of it.
    stacks = {one for one in reading if "." not in one} or set(reading)
    if not stacks:
        raise LayoutError("it has no attention heads")
    if len(stacks) > 1 or "" in stacks:
        raise LayoutError(f"its attention is in {len(stacks)} stacks of layers, not in one")
    stack = stacks.pop()
    return stack, len(lists[stack])


def _attentions(layers: nn.Module) -> dict[str, nn.Module]:
    """Modules of attention over the prompt by name, all of it softmax through the interface.

    Raises:
        LayoutError: there is none, or some is of a kind that Eq. 1 cannot be read from.
    """
    found: dict[str, nn.Module] = {}
    for name, module in layers.named_modules():
        if has_own_softmax(module):
            raise LayoutError("its attention does not go through transformers.AttentionInterface")
        last = name.rpartition(".")[2]
        if not reads_interface(module) or last in ("cross_attn", "crossattention"):
            continue
        found[name] = module
        if last == "encoder_attn":
            raise LayoutError("its layers look at an encoder too")
        if hasattr(module, "lambda_q1"):
            raise LayoutError(
                "its attention is the difference of two softmaxes, which Eq. 1 is not about"
            )
        picks = getattr(module, "indexer", None) or getattr(module, "compressor", None)
        if picks and not says_what_it_attends(module):
            raise LayoutError(
                "its tokens attend only to those that an indexer picks, and the attention function "
                "does not see which (sparse attention)"
            )
        if not getattr(module, "is_causal", True):
            raise LayoutError("its attention is not causal: tokens attend to those after them")
    if not found:
        raise LayoutError("none of its attention is over the prompt")
    return found
