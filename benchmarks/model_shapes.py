"""Models with random weights in the shapes of real ones, and a tokenizer for their tokens."""

from collections.abc import Callable
from typing import Any

import torch
from tokenizers import Tokenizer, models
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

POSITIONS = {"max_position_embeddings": 8192}
WORDS = 1000
"""Tokens that the tokenizer knows; every vocabulary of a shape holds them."""


def _sizes(
    hidden: int, layers: int, heads: int, groups: int, intermediate: int, vocabulary: int
) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "intermediate_size": intermediate,
        "vocab_size": vocabulary,
    }


SHAPES: dict[str, Callable[[], PretrainedConfig]] = {
    "llama3-8b": lambda: LlamaConfig(**_sizes(4096, 32, 32, 8, 14336, 128256), **POSITIONS),
    "qwen2-7b": lambda: Qwen2Config(**_sizes(3584, 28, 28, 4, 18944, 152064), **POSITIONS),
    "gemma-7b": lambda: GemmaConfig(
        **_sizes(3072, 28, 16, 16, 24576, 256000), **POSITIONS, head_dim=256
    ),
    "mistral-7b": lambda: MistralConfig(
        **_sizes(4096, 32, 32, 8, 14336, 32768), **POSITIONS, sliding_window=None
    ),
    "tiny": lambda: LlamaConfig(**_sizes(128, 8, 4, 2, 256, WORDS), **POSITIONS),
}


def build(shape: str, device: torch.device, layers: int | None = None) -> PreTrainedModel:
    """Returns a frozen bfloat16 model with random weights, made on its device in its dtype.

    Args:
        shape: a key of ``SHAPES``.
        device: where it is made; there is never a float32 copy.
        layers: number of layers; those of the shape unless given.
    """
    torch.manual_seed(0)
    config = SHAPES[shape]()
    config.num_hidden_layers = layers or config.num_hidden_layers
    with device:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    return model.requires_grad_(False).eval()


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Returns a tokenizer of ``WORDS`` words; other tokens decode to nothing."""
    words = {"<unk>": 0} | {f"word{number}": number for number in range(1, WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<unk>")
