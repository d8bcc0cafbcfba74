"""Loading a model and its tokenizer: hub id, local folder, GGUF file, or the embedded model."""

import json
import math
import re
from collections.abc import Iterable, Mapping
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
from transformers.utils import find_adapter_config_file

from nasalign.data.hub import how_to_be_let_in, silence_of_the_hub
from nasalign.errors import ModelError, NasAlignError
from nasalign.extras import require
from nasalign.io.digests import sha256
from nasalign.models import processes
from nasalign.models.embedded import EMBEDDED_MODELS, embedded_folder
from nasalign.models.geometry import PROJECTIONS, check_supported
from nasalign.models.memory import free, is_out_of_memory, not_held
from nasalign.models.safety import (
    check_counts,
    check_model_folder,
    check_size,
    is_adapter,
    own_code,
)

_LAYER = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\.")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """Return the given device, which must exist; or that of this process, CUDA, MPS or the CPU."""
    if device is None:
        device = processes.own_device()
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise ModelError(f"The device {device!r} cannot be used here; try cpu.") from error
    return chosen


def choose_dtype(dtype: str | None, device: torch.device) -> torch.dtype:
    """Return the named dtype, or float32 on a CPU and bfloat16 on an accelerator."""
    if dtype is None:
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if dtype not in DTYPES:
        raise ModelError(f"There is no dtype {dtype!r}; choose one of {', '.join(DTYPES)}.")
    return DTYPES[dtype]


def load(
    name: str | Path,
    *,
    device: str | None = None,
    dtype: str | None = None,
    quantize: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer, ready for inference.

    Args:
        name: a hub id, a local folder, a ``.gguf`` file, or the alias ``smollm2-135m``.
        device: such as ``"cpu"`` or ``"cuda:1"``; CUDA, MPS or the CPU unless given. ``"auto"``
            spreads a model that exceeds one device over all of them.
        dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``; by the device unless given.
        quantize: ``"8bit"`` or ``"4bit"`` (NF4) by bitsandbytes; the query and key projections,
            whose rows are tuned, and the output embedding stay in the dtype.
        revision: a branch, tag or commit of a hub model.
        trust_remote_code: run code that the model brings along.

    Returns:
        The model in evaluation mode with frozen parameters, and its tokenizer.

    Raises:
        ModelError: it cannot be found or loaded, or its architecture is not supported, which is
            checked before the weights are downloaded.
        OutOfMemoryError: it does not fit into memory.
    """
    name = str(name)
    if quantize and name.endswith(".gguf"):
        raise ModelError("A GGUF file is taken dequantised; leave quantize out.")
    if quantize:
        require("quant")
    spread = device == "auto"
    chosen_device = choose_device(None if spread else device)
    chosen_dtype = choose_dtype(dtype, chosen_device)
    silence = ""
    try:
        source, extra = _source(name)
        options: dict[str, Any] = dict(extra)
        options |= {"trust_remote_code": trust_remote_code, "revision": revision}
        if source == name and not Path(name).exists():
            silence = silence_of_the_hub(name)
            options["local_files_only"] = bool(silence)  # it may be in the cache
        if find_adapter_config_file(
            source, revision=revision, local_files_only=options.get("local_files_only", False)
        ):  # transformers would load the base model that it names, whatever that is
            raise ModelError(is_adapter(name))
        check_counts(PretrainedConfig.get_config_dict(source, **options)[0], name)
        if not trust_remote_code:  # a model's own code may not build without its weights
            config = AutoConfig.from_pretrained(source, **options)
            weights = Path(source) / extra.get("gguf_file", "")
            packed = "gguf_file" in extra or hasattr(config, "quantization_config")
            check_size(weights, check_supported(config), packed)
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        if "gguf_file" in extra:
            options["quantization_config"] = GgufConfig(dequantize=True)
        else:
            options["use_safetensors"] = True
        if spread:  # layer by layer over all devices, then main memory, by accelerate
            options["device_map"] = "auto"
        if quantize:
            options["quantization_config"] = _quantization(quantize, chosen_dtype)
            options.setdefault("device_map", {"": chosen_device})
        model, report = AutoModelForCausalLM.from_pretrained(
            source, dtype=chosen_dtype, output_loading_info=True, **options
        )
    except NasAlignError:
        raise
    except Exception as error:  # files that a stranger made; tokenizers has no class of its own
        if not trust_remote_code and "trust_remote_code" in str(error):
            raise ModelError(own_code(name)) from error
        if is_out_of_memory(error):
            free(error)
            place = torch.device("cpu") if not (spread or quantize) else chosen_device
            raise not_held(name, place, chosen_dtype, bool(quantize)) from error
        raise _failure(name, error, silence) from error
    if getattr(model, "_hf_peft_config_loaded", False):  # added since the check above
        raise ModelError(is_adapter(name))
    _check_whole(model, report, name)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.requires_grad_(False)
    try:
        model = (model if spread or quantize else model.to(chosen_device)).eval()
        _check_finite(model, name)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        size = sum(weight.nbytes for weight in model.parameters())
        del model  # a part of it is on the device already
        free(error)
        raise not_held(name, chosen_device, chosen_dtype, bool(quantize), size) from error
    return model, tokenizer


def _failure(name: str, error: Exception, silence: str) -> ModelError:
    """The error of a model that did not load; ``silence`` says why the hub does not answer."""
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


def _check_finite(model: PreTrainedModel, name: str) -> None:
    """Refuse weights that are not finite: every figure would be wrong, without any error.

    The minimum and the maximum are enough, and take an eighth of the time of ``isfinite``.
    """
    for parameter, weight in model.named_parameters():
        if weight.dtype not in (*DTYPES.values(), torch.float64) or not weight.numel():
            continue
        least, greatest = torch.aminmax(weight.detach())
        if not bool(least.isfinite() & greatest.isfinite()):
            raise ModelError(
                f"The model {name!r} has weights that are not finite (NaN or infinite), in "
                f"{parameter}; get it anew, or take another --dtype if it was made for one."
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
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"There is no GGUF file {path}.")
        return str(path.parent), {"gguf_file": path.name}
    if path.is_dir():
        check_model_folder(path)
        return str(path), {}
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelError(
            f"There is no model {name!r}: it is neither a folder, nor a .gguf file, nor a hub id "
            f"(owner/name), nor an alias ({', '.join(EMBEDDED_MODELS)})."
        )
    return name, {}


def fingerprint(model: PreTrainedModel) -> str:
    """Return a SHA-256 over the configuration and a sample of each parameter's bytes.

    That of a quantised model begins with ``quantised-``, since its weights differ from the
    original's. Of a large parameter only the first and last 1,024 entries are read, so equal
    fingerprints mean the same weights but for a contrived case.
    """
    config = model.config.to_dict()
    for volatile in ("_name_or_path", "transformers_version", "dtype", "architectures"):
        config.pop(volatile, None)
    parts: list[str | bytes] = [json.dumps(config, sort_keys=True, default=str)]
    for name, parameter in sorted(model.named_parameters()):
        flat = parameter.detach().reshape(-1)
        ends = torch.cat([flat[:1024], flat[-1024:]]).float().cpu()
        parts += [f"{name}{tuple(parameter.shape)}", ends.numpy().tobytes()]
    few_bits = any(getattr(model, f"is_loaded_in_{bits}", False) for bits in ("8bit", "4bit"))
    return ("quantised-" if few_bits else "") + sha256(parts)


def context_length(model: PreTrainedModel) -> int | None:
    """Return the model's maximum number of positions, or None if its configuration has none."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)
