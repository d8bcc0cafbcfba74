"""Saying by its configuration alone whether a model is supported, before any weights are there."""

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

from nasalign.errors import ModelError
from nasalign.models.geometry import HeadGeometry


def check_supported(config: PretrainedConfig) -> int:
    """Builds the model's modules without memory and reads the geometry of its heads off them.

    Takes a fraction of a second, also where the weights are hundreds of gigabytes.

    Returns:
        Its number of parameters.

    Raises:
        ModelError: the architecture does not fit; the sentence names it and says why.
        ValueError: the configuration contradicts itself.
    """
    names = getattr(config, "architectures", None) or [type(config).__name__]
    if config.is_encoder_decoder:
        raise _refusal(names[0], "it is an encoder with a decoder, where one decoder is needed")
    if type(config) not in AutoModelForCausalLM._model_mapping:
        raise _refusal(names[0], "it is no causal language model that transformers knows")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    HeadGeometry.of(model)
    return sum(weight.numel() for weight in model.parameters())


def _refusal(name: str, why: str) -> ModelError:
    return ModelError(f"The architecture {name} is not supported: {why}.")
