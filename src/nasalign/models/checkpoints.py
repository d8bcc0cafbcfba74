"""A checkpoint or a GGUF file: where it is, its model and its tokenizer, checked as a whole."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GgufConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file, find_adapter_config_file

from nasalign.data.hub import how_to_be_let_in
from nasalign.errors import ModelError, NasAlignError
from nasalign.models.aliases import EMBEDDED_MODELS, check_model_name, local_path
from nasalign.models.classes import auto_class
from nasalign.models.embedded import embedded_folder
from nasalign.models.geometry import check_supported
from nasalign.models.head_layouts import PROJECTIONS
from nasalign.models.memory import free, is_out_of_memory, not_held
from nasalign.models.safety import (
    check_counts,
    check_model_folder,
    check_size,
    is_adapter,
    own_code,
)

_LAYER = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\.")


@dataclass(frozen=True)
class How:
    """How a model is loaded.

    Attributes:
        device: where it goes in the end.
        dtype: of its weights.
        spread: over all devices, then main memory, layer by layer, by accelerate.
        quantize: ``"8bit"``, ``"4bit"`` or None.
        revision: of a hub model.
        trust_remote_code: run code that the model brings along.
        whole: refuse weights that are stored in few bits.
    """

    device: torch.device
    dtype: torch.dtype
    spread: bool = False
    quantize: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    whole: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """What ``from_pretrained`` takes of it for the weights."""
        options: dict[str, Any] = {"dtype": self.dtype}
        if self.spread:
            options["device_map"] = "auto"
        if self.quantize:
            options["quantization_config"] = _quantization(self.quantize, self.dtype)
            options.setdefault("device_map", {"": self.device})
        return options


def load_checkpoint(
    name: str, how: How, silence: str = ""
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model that is no adapter, and its tokenizer; it is on the CPU unless spread.

    Args:
        name: a hub id, a local folder, a GGUF file, or an alias.
        how: dtype, revision and so on.
        silence: why the hub does not answer for a hub id, or empty.

    Raises:
        ModelError: it cannot be found or loaded, or is not supported.
        OutOfMemoryError: it does not fit into memory.
    """
    try:
        source, extra = _source(name)
        place: dict[str, Any] = dict(extra)
        place |= {"trust_remote_code": how.trust_remote_code, "revision": how.revision}
        if source == name and not Path(name).exists():
            place["local_files_only"] = bool(silence)  # it may be in the cache
        if find_adapter_config_file(
            source, revision=how.revision, local_files_only=bool(silence)
        ):  # transformers would load the base model that it names, whatever that is
            raise ModelError(is_adapter(name))
        check_counts(PretrainedConfig.get_config_dict(source, **place)[0], name)
        config = AutoConfig.from_pretrained(source, **place)
        if not how.trust_remote_code:  # a model's own code may not build without its weights
            packed = "gguf_file" in extra or hasattr(config, "quantization_config")
            if packed and how.whole:
                raise ModelError(
                    f"The weights of {name!r} are quantised, and a change that is merged into few "
                    "bits is rounded with them; take the whole weights."
                )
            weights = Path(source) / extra.get("gguf_file", "")
            check_size(weights, check_supported(config), packed)
        tokenizer = AutoTokenizer.from_pretrained(source, **place)
        if tokenizer.chat_template is None and "gguf_file" not in extra:
            tokenizer.chat_template = _template_of_processor(source, place)
        if "gguf_file" in extra:
            place["quantization_config"] = GgufConfig(dequantize=True)
        else:
            place["use_safetensors"] = True
        auto = auto_class(config) or AutoModelForCausalLM
        model, report = auto.from_pretrained(
            source, output_loading_info=True, **(place | how.options)
        )
    except NasAlignError:
        raise
    except Exception as error:  # files that a stranger made; tokenizers has no class of its own
        if not how.trust_remote_code and "trust_remote_code" in str(error):
            raise ModelError(own_code(name)) from error
        if is_out_of_memory(error):
            free(error)
            at = how.device if how.spread or how.quantize else torch.device("cpu")
            raise not_held(name, at, how.dtype, bool(how.quantize)) from error
        raise failure(name, error, silence) from error
    if getattr(model, "_hf_peft_config_loaded", False):  # added since the check above
        raise ModelError(is_adapter(name))
    _check_whole(model, report, name)
    return model, tokenizer


def _template_of_processor(source: str, place: Mapping[str, Any]) -> str | None:
    """The chat template of a multimodal model whose processor has a file of its own for it."""
    path = cached_file(
        source,
        "chat_template.json",
        revision=place["revision"],
        local_files_only=place.get("local_files_only", False),
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if path is None:
        return None
    template = json.loads(Path(path).read_text(encoding="utf-8"))["chat_template"]
    return str(template)


def failure(name: str, error: Exception, silence: str = "") -> ModelError:
    """Return the error of a model that did not load; ``silence`` is as for ``load_checkpoint``."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    reason = how_to_be_let_in(name, error) or reason
    if silence:
        reason = f"{silence}, and it was not fetched before."
    if name in EMBEDDED_MODELS:  # it was complete when it was written
        reason += f" Remove the folder {embedded_folder(name)}, and it is fetched again."
    return ModelError(f"The model {name!r} cannot be loaded: {reason}")


def _check_whole(model: PreTrainedModel, report: Mapping[str, Iterable[str]], name: str) -> None:
    """Refuse a model of which some weights are missing, unused, or not in memory."""
    missing = sorted(report["missing_keys"])
    if missing:  # transformers would fill them with random numbers
        raise ModelError(
            f"The model {name!r} cannot be loaded: its files lack {len(missing)} weights, such as "
            f"{missing[0]}."
        )
    layers = getattr(model.config.get_text_config(), "num_hidden_layers", math.inf)
    numbers = (_LAYER.search(key) for key in report["unexpected_keys"])
    highest = max((int(found[1]) for found in numbers if found), default=-1)
    if highest >= layers:  # transformers would build a shorter model
        raise ModelError(
            f"The model {name!r} cannot be loaded: its configuration says {layers} layers, and its "
            f"files have layer {highest + 1}; num_hidden_layers is not that of these weights."
        )
    if any(parameter.is_meta for parameter in model.parameters()):
        raise ModelError(
            f"The model {name!r} does not fit into the memory of the devices: some of its weights "
            "would have to be fetched for every pass; take a smaller dtype or more devices."
        )


def _quantization(bits: str, dtype: torch.dtype) -> BitsAndBytesConfig:
    if bits not in ("8bit", "4bit"):
        raise ModelError(f"There is no quantisation {bits!r}; choose 8bit or 4bit.")
    return BitsAndBytesConfig(
        load_in_8bit=bits == "8bit",
        load_in_4bit=bits == "4bit",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=[*PROJECTIONS, "lm_head", "embed_out"],
    )


def _source(name: str) -> tuple[str, dict[str, str]]:
    """The folder or hub id to load from, and extra arguments for a GGUF file."""
    if name in EMBEDDED_MODELS:
        return str(embedded_folder(name)), {}
    path = local_path(name)
    check_model_name(name)
    if path.suffix == ".gguf":
        return str(path.parent), {"gguf_file": path.name}
    if path.is_dir():
        check_model_folder(path)
        return str(path), {}
    return name, {}
