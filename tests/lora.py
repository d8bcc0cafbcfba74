"""LoRA adapters of random weights for tiny models, as PEFT writes them."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel

import tiny

IDS = torch.arange(5, 30)[None]
PLAIN: dict[str, Any] = {"r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "o_proj"]}


@torch.no_grad()
def logits(model: torch.nn.Module) -> Tensor:
    """What a model says to some tokens."""
    output: Tensor = model.eval()(IDS).logits
    return output


def written(model: PreTrainedModel, base: Path | str, folder: Path, **config: Any) -> Tensor:
    """Writes an adapter for a model of the name ``base``; returns what both say together."""
    wrapped = get_peft_model(model, LoraConfig(**(PLAIN | config)))
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if weight.requires_grad:
                generator = torch.Generator().manual_seed(len(name))
                weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    said = logits(wrapped)
    wrapped.peft_config["default"].base_model_name_or_path = str(base)
    wrapped.save_pretrained(folder)
    return said


def adapter(base: Path | str, folder: Path, family: str = "llama", **config: Any) -> Tensor:
    """Writes an adapter for a tiny model of a family that ``tiny.save`` has put into ``base``."""
    return written(tiny.build_model(family), base, folder, **config)
