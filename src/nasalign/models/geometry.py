"""Which rows of which parameter are the query and the key of an attention head.

Supported are decoders whose attention reads ``transformers.AttentionInterface`` and projects q and
k by plain linear layers, in one of three layouts:

* ``q_proj`` and ``k_proj`` apart (Llama, Mistral, Gemma, Qwen, OLMo 2, gpt-oss, ...),
* ``qkv_proj``: all queries, all keys, all values one after the other (Phi-3),
* ``query_key_value``: query, key and value of each head in turn (GPT-NeoX).
"""

from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from nasalign.errors import ModelError


@dataclass(frozen=True)
class RowSlice:
    """Rows ``start`` to ``stop`` (exclusive) of the weight [out, in] of a linear module."""

    module: str
    start: int
    stop: int


@dataclass(frozen=True)
class HeadRows:
    """Where the query rows of a head and the key rows of its group lie."""

    query: RowSlice
    key: RowSlice


@dataclass(frozen=True)
class HeadGeometry:
    """The attention heads of a model."""

    attention_modules: tuple[str, ...]  # module name of each layer's attention, L of them
    heads: int  # number of query heads H of a layer
    head_size: int  # rows D of a head
    groups: int  # number of key heads of a layer; H // groups query heads share one
    layout: str  # a key of _LAYOUTS

    @property
    def layers(self) -> int:
        """Number of layers L."""
        return len(self.attention_modules)

    def rows(self, layer: int, head: int) -> HeadRows:
        """Return the rows of a head; in grouped-query attention the key rows are its group's."""
        if not (0 <= layer < self.layers and 0 <= head < self.heads):
            raise IndexError(f"no head ({layer}, {head}) among {self.layers} x {self.heads}")
        name, size = self.attention_modules[layer], self.head_size
        group = head // (self.heads // self.groups)
        places = {  # first row of the query and of the key, in heads
            "separate": (head, group),
            "stacked": (head, self.heads + group),
            "interleaved": (3 * head, 3 * head + 1),
        }
        modules = [f"{name}.{module}" for module in _LAYOUTS[self.layout]]
        query, key = (
            RowSlice(module, place * size, (place + 1) * size)
            for module, place in zip((modules[0], modules[-1]), places[self.layout], strict=True)
        )
        return HeadRows(query, key)

    @classmethod
    def of(cls, model: PreTrainedModel) -> "HeadGeometry":
        """Read the geometry off a model's modules, or raise ModelError if it is not supported."""
        found = [
            (name, module)
            for name, module in model.named_modules()
            if isinstance(getattr(module, "layer_idx", None), int) and _layout(module) is not None
        ]
        found.sort(key=lambda item: item[1].layer_idx)
        layers = model.config.get_text_config().num_hidden_layers
        if [module.layer_idx for _, module in found] != list(range(layers)):
            _refuse(model, _why_not(model, len(found), layers))
        if not model._can_set_attn_implementation():
            _refuse(model, "its attention does not go through transformers.AttentionInterface")
        geometries = {_measure(model, module) for _, module in found}
        if len(geometries) != 1:
            _refuse(model, "its layers differ in number or size of heads")
        heads, size, groups, layout = geometries.pop()
        return cls(tuple(name for name, _ in found), heads, size, groups, layout)


_LAYOUTS = {  # layout -> the linear modules of an attention module
    "separate": ("q_proj", "k_proj"),
    "stacked": ("qkv_proj",),
    "interleaved": ("query_key_value",),
}

PROJECTIONS = tuple(name for names in _LAYOUTS.values() for name in names)
"""Names of the linear modules whose rows are queries and keys."""


def check_supported(config: PretrainedConfig) -> int:
    """Return the number of parameters of a supported model, by its configuration alone.

    Build the modules without memory, which takes a fraction of a second for any size. Raise
    ModelError if the architecture does not fit, ValueError if the configuration contradicts itself.
    """
    name = (getattr(config, "architectures", None) or [type(config).__name__])[0]
    if config.is_encoder_decoder:
        _refuse(name, "it is an encoder with a decoder, where one decoder is needed")
    if type(config) not in AutoModelForCausalLM._model_mapping:
        _refuse(name, "it is no causal language model that transformers knows")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    HeadGeometry.of(model)
    return sum(weight.numel() for weight in model.parameters())


def _layout(module: nn.Module) -> str | None:
    for layout, names in _LAYOUTS.items():
        if all(isinstance(getattr(module, name, None), nn.Linear) for name in names):
            return layout
    return None


def _why_not(model: PreTrainedModel, found: int, layers: int) -> str:
    """Return why some layer does not have one pair of q and k projections."""
    inner = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    if "encoder_attn" in inner:
        return "its layers look at an encoder too"
    if {"kv_a_proj_with_mqa", "kv_b_proj"} & inner:
        return "its keys come out of a latent that all heads share (MLA), so none has rows of keys"
    if "c_attn" in inner:
        return "its projections are Conv1D, whose weights lie the other way"
    if not any("att" in name for name in inner):
        return "it has no attention heads"
    which = f"only {found} of its {layers} layers have" if found else "none of its layers has"
    return f"{which} q and k projections that we know"


def _measure(model: PreTrainedModel, attention: Any) -> tuple[int, int, int, str]:
    """Heads, head size, groups and layout of an attention module, checked against its weights."""
    config, layout = attention.config, _layout(attention)
    if hasattr(attention, "lambda_q1"):
        _refuse(model, "its attention is the difference of two softmaxes, which Eq. 1 is not about")
    heads = config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    size = getattr(attention, "head_dim", None) or getattr(attention, "head_size", None)
    if layout is None or size is None:
        _refuse(model, "its attention does not say the size of a head")
    if layout == "separate":
        rows = [attention.q_proj.out_features, attention.k_proj.out_features]
        expected = [heads * size, groups * size]
    elif layout == "stacked":
        rows, expected = [attention.qkv_proj.out_features], [(heads + 2 * groups) * size]
    else:
        rows, expected = [attention.query_key_value.out_features], [3 * heads * size]
        groups = heads
    if heads % groups:
        _refuse(model, f"its {heads} query heads cannot share {groups} key heads evenly")
    if rows != expected:
        _refuse(model, f"its projections have {rows} rows where its heads take {expected}")
    return heads, size, groups, layout


def _refuse(model: PreTrainedModel | str, why: str) -> NoReturn:
    name = model if isinstance(model, str) else type(model).__name__
    raise ModelError(f"The architecture {name} is not supported: {why}.")
