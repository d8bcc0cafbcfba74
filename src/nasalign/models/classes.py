"""Which class of transformers a checkpoint is: a causal language model, or a multimodal one.

A multimodal checkpoint is loaded as a whole and asked by text alone; its parts for images and sound
stay idle and are saved again as they were.
"""

from typing import Any

import torch
import transformers
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    PretrainedConfig,
    PreTrainedModel,
)

from nasalign.errors import ModelError

_AUTO = (AutoModelForCausalLM, AutoModelForMultimodalLM)


def auto_class(config: PretrainedConfig) -> Any:
    """Return the auto class of transformers that loads all of a checkpoint; None if it has none.

    Some types, such as Qwen 3.5, have a class for the text part beside that for the whole: the one
    that the checkpoint names is taken, or else that for the whole.
    """
    found = {auto: auto._model_mapping[type(config)] for auto in _known(config)}
    named = set(config.architectures or ())
    for auto, model_class in found.items():
        if model_class.__name__ in named:
            return auto
    whole = [auto for auto, one in found.items() if one.config_class is type(config)]
    return next(iter([*whole, *found]), None)


def loading_class(architecture: str) -> str:
    """Return the name of the auto class by which a user loads a model of this class."""
    causal = AutoModelForCausalLM._model_mapping._model_mapping.values()
    return AutoModelForCausalLM.__name__ if architecture in causal else _AUTO[-1].__name__


def empty_model(config: PretrainedConfig) -> PreTrainedModel:
    """Return the model of a configuration, without memory for its weights.

    Building the modules takes a fraction of a second for any size.

    Raises:
        ModelError: it is no decoder that can be asked by text alone, or a library is missing.
        ValueError: the configuration contradicts itself.
    """
    name = (config.architectures or [type(config).__name__])[0]
    if config.is_encoder_decoder or config.get_text_config().is_encoder_decoder:
        raise unsupported(name, "it is an encoder with a decoder, where one decoder is needed")
    auto = auto_class(config)
    if auto is None:
        raise unsupported(name, "it is no causal language model that transformers knows")
    model_class: Any = getattr(transformers, name, None)  # such as for the classification of texts
    if not (isinstance(model_class, type) and issubclass(model_class, PreTrainedModel)):
        model_class = auto._model_mapping[type(config)]
    if model_class.forward is nn.Module.forward or not model_class.can_generate():
        raise unsupported(name, "it does not predict the next token of a text")
    try:
        with torch.device("meta"):
            model: PreTrainedModel = auto.from_config(config).eval()
    except ImportError as error:
        raise unsupported(
            name, f"{' '.join(str(error).split()).partition(' but ')[0]}, which is missing"
        ) from error
    if model.get_output_embeddings() is None:
        raise unsupported(name, "transformers does not say which module is its output embedding")
    needed = _needs(model)
    if needed:
        raise unsupported(name, f"it cannot be asked by text alone: {needed}")
    return model


def unsupported(name: str, why: str) -> ModelError:
    """Return the error of an architecture that does not fit."""
    return ModelError(f"The architecture {name} is not supported: {why}.")


def _known(config: PretrainedConfig) -> list[Any]:
    return [auto for auto in _AUTO if type(config) in auto._model_mapping]


def _needs(model: PreTrainedModel) -> str:
    """What a model says that lacks an input beside the text; empty if it lacks none.

    A pass without weights ends at the first step that looks at a number, mostly at the mask; a
    missing input is found before that.
    """
    try:
        with torch.no_grad(), torch.device("meta"):
            model(input_ids=torch.zeros(1, 8, dtype=torch.long), use_cache=False)
    except (TypeError, ValueError) as error:
        return " ".join(str(error).split()).rstrip(".")
    except Exception:  # that there are no numbers
        return ""
    return ""
