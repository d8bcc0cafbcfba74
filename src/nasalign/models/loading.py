"""Loading a model and its tokenizer: hub id, folder, GGUF file, embedded model, LoRA adapter."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from nasalign.data.hub import silence_of_the_hub
from nasalign.errors import ModelError, NasAlignError
from nasalign.extras import require
from nasalign.io.digests import sha256
from nasalign.models import processes
from nasalign.models.aliases import is_on_hub
from nasalign.models.checkpoints import How, failure, load_checkpoint
from nasalign.models.lora_files import find_adapter
from nasalign.models.memory import free, is_out_of_memory, not_held
from nasalign.models.merging import LoraAdapter

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

    A multimodal model is loaded as a whole, and asked by text alone.

    Args:
        name: a hub id, a local folder, a ``.gguf`` file, or the alias ``smollm2-135m``. A LoRA
            adapter of PEFT is merged into the base model that it names.
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
        ModelError: it cannot be found, loaded or merged, or its architecture is not supported,
            which is checked before the weights are downloaded.
        OutOfMemoryError: it does not fit into memory.
    """
    name = str(name)
    if quantize and name.endswith(".gguf"):
        raise ModelError("A GGUF file is taken dequantised; leave quantize out.")
    if quantize:
        require("quant")
    spread = device == "auto"
    chosen_device = choose_device(None if spread else device)
    how = How(chosen_device, choose_dtype(dtype, chosen_device), spread, quantize)
    silence = silence_of_the_hub(name) if is_on_hub(name) else ""
    adapter = find_adapter(name, revision=revision, offline=bool(silence))
    if adapter:
        model, tokenizer = _load_merged(adapter, how, trust_remote_code)
    else:
        how = replace(how, revision=revision, trust_remote_code=trust_remote_code)
        model, tokenizer = load_checkpoint(name, how, silence)
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
        raise not_held(name, chosen_device, how.dtype, bool(quantize), size) from error
    return model, tokenizer


def _load_merged(
    adapter: LoraAdapter, how: How, trust_remote_code: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the base model of an adapter, and merge the adapter into it."""
    adapter.refuse_options(how.quantize, trust_remote_code)
    with adapter.explained():
        silence = silence_of_the_hub(adapter.base) if is_on_hub(adapter.base) else ""
        base = replace(how, revision=adapter.revision, whole=True)
        model, tokenizer = load_checkpoint(adapter.base, base, silence)
    try:
        model = adapter.merge_into(model)
        if adapter.tokenizer:
            tokenizer = AutoTokenizer.from_pretrained(adapter.folder, config=model.config)
    except NasAlignError:
        raise
    except Exception as error:  # files that a stranger made
        if is_out_of_memory(error):
            free(error)
            raise not_held(adapter.name, model.device, how.dtype, False) from error
        raise failure(adapter.name, error) from error
    return model, tokenizer


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


def fingerprint(model: PreTrainedModel) -> str:
    """Return a SHA-256 over the configuration and a sample of each parameter's bytes.

    That of a quantised model begins with ``quantised-``, since its weights differ from the
    original's. Of a large parameter only the first and last 1,024 entries are read, so equal
    fingerprints mean the same weights but for a contrived case.
    """
    config = _lasting(model.config.to_dict())
    parts: list[str | bytes] = [json.dumps(config, sort_keys=True, default=str)]
    for name, parameter in sorted(model.named_parameters()):
        flat = parameter.detach().reshape(-1)
        ends = torch.cat([flat[:1024], flat[-1024:]]).float().cpu()
        parts += [f"{name}{tuple(parameter.shape)}", ends.numpy().tobytes()]
    few_bits = any(getattr(model, f"is_loaded_in_{bits}", False) for bits in ("8bit", "4bit"))
    return ("quantised-" if few_bits else "") + sha256(parts)


def _lasting(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without what changes when the same weights are loaded another way."""
    volatile = ("_name_or_path", "transformers_version", "dtype", "architectures")
    return {
        key: _lasting(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if key not in volatile
    }


def context_length(model: PreTrainedModel) -> int | None:
    """Return the model's maximum number of positions, or None if its configuration has none."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)
