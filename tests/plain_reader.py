"""A reader of LoRA adapters that knows one rank only, as llama.cpp and Ollama are.

It shares no code with the package: of the configuration it takes ``lora_alpha``, and the rank is
that of each pair of tensors.
"""

import json
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor


def merged(weights: dict[str, Tensor], adapter: Path) -> dict[str, Tensor]:
    """The weights of a base model with an adapter in them."""
    alpha = json.loads((adapter / "adapter_config.json").read_text())["lora_alpha"]
    tensors = load_file(adapter / "adapter_model.safetensors")
    after = dict(weights)
    for key, a in tensors.items():
        if key.endswith(".lora_A.weight"):
            b = tensors[key.replace(".lora_A.", ".lora_B.")]
            name = key.removeprefix("base_model.model.").replace(".lora_A.", ".")
            after[name] = weights[name] + (b @ a) * (alpha / len(a))
    return after
