"""Registering an attention function that wraps one of transformers."""

import sys
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

Attention = Callable[..., tuple[Tensor, Tensor | None]]
"""Takes a module, queries, keys, values, a mask and options; returns output and weights."""


def register(name: str, attend: Attention, inner: str) -> None:
    """Register an attention function, with the mask function of the one that it wraps.

    Without a mask function of the same name, transformers passes no mask at all.
    """
    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS[inner])


def has_eager(module: nn.Module) -> bool:
    """Whether a module's modeling file has a function for eager attention."""
    return hasattr(_modeling(module), "eager_attention_forward")


def attention_of(module: nn.Module, implementation: str) -> Attention:
    """Return the attention function of that name, or the module's own eager one."""
    if implementation == "eager":
        eager: Attention = _modeling(module).eager_attention_forward
        return eager
    return ALL_ATTENTION_FUNCTIONS[implementation]


def _modeling(module: nn.Module) -> Any:
    return sys.modules[type(module).__module__]
