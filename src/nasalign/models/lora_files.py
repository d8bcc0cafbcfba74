"""Finding a LoRA adapter of PEFT in a folder or on the hub; checks before PEFT reads it.

PEFT would read a pickle, and import a module that a configuration names.
"""

from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError
from safetensors import SafetensorError, safe_open
from transformers.utils import cached_file

from nasalign.errors import ModelError, shortened
from nasalign.models.aliases import is_on_hub, local_path
from nasalign.models.merging import CONFIG, FILE, OURS, LoraAdapter
from nasalign.models.safety import check_sizes

_NOT_MERGED = {
    "megatron_config": "it imports a module that it names",
    "layer_replication": "it repeats layers",
    "alora_invocation_tokens": "it acts on some tokens alone",
    "arrow_config": "it chooses among several adapters for each token",
}
_MODEL_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin", "*.gguf")


class _Config(BaseModel):
    """What is read of an adapter's configuration before PEFT reads it."""

    model_config = ConfigDict(strict=True, extra="allow")

    peft_type: str = ""
    base_model_name_or_path: str | None = None
    revision: str | None = None
    r: PositiveInt = 8
    rank_pattern: dict[str, PositiveInt] | None = None


def find_adapter(
    name: str, *, revision: str | None = None, offline: bool = False
) -> LoraAdapter | None:
    """Return the adapter that a name stands for; None if it has no ``adapter_config.json``.

    Args:
        name: as ``load`` takes it.
        revision: of a hub id.
        offline: look only into the hub's cache.

    Raises:
        ModelError: it is no LoRA, is incomplete, is a pickle, holds a model too, or nasalign wrote
            it, which takes it by ``--adapter``.
    """
    folder = local_path(name)
    if not (is_on_hub(name) or folder.is_dir()):
        return None
    place = str(folder) if folder.is_dir() else name
    found = partial(_file, place, revision, offline)
    config_path = found(CONFIG)
    if config_path is None:
        return None
    if folder.is_dir():
        check_sizes(folder)
    if _holds_a_model(folder) if folder.is_dir() else found("config.json"):
        raise ModelError(
            f"{name!r} holds an {CONFIG} beside a model, so it is not clear which of the two is "
            "meant; name a folder that holds the model or the adapter alone."
        )
    config = _read_config(name, config_path)
    path = found(FILE)
    if path is None:
        raise ModelError(
            f"{name!r} is an adapter by its {CONFIG}, but has no {FILE}, and only safetensors are "
            "read: a pickle (adapter_model.bin) can run code. Load it where you trust it, and save "
            "it by PEFT's save_pretrained, which writes safetensors."
        )
    return LoraAdapter(
        name,
        path.parent,
        str(config.base_model_name_or_path),
        config.revision,
        _shapes(name, path, config),
        found("tokenizer_config.json") is not None,
    )


def _file(place: str, revision: str | None, offline: bool, name: str) -> Path | None:
    """A file of a folder or a hub id, fetched if need be; None if it has none."""
    try:
        found = cached_file(
            place,
            name,
            revision=revision,
            local_files_only=offline,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except OSError:  # no name that the hub allows
        return None
    return Path(found) if found else None


def _holds_a_model(folder: Path) -> bool:
    """Whether there are a model's weights; trainers leave its config.json beside an adapter."""
    return any(any(folder.glob(pattern)) for pattern in _MODEL_WEIGHTS)


def _read_config(name: str, path: Path) -> _Config:
    """The configuration of an adapter that PEFT can merge without a module from elsewhere."""
    try:
        config = _Config.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = shortened(".".join(map(str, first["loc"])) or "all of it")
        raise ModelError(f"{path} is broken, at {where}: {first['msg']}.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} is broken: {shortened(str(error))}.") from error
    if config.peft_type != "LORA":
        raise ModelError(
            f"{name!r} is an adapter of the kind {shortened(config.peft_type)}, and only LoRA is "
            "merged; merge it by PEFT, if it can be, and name the result."
        )
    if not (config.base_model_name_or_path or "").strip():
        raise ModelError(
            f"{name!r} is a LoRA adapter whose {CONFIG} does not say for which model; write that "
            "as base_model_name_or_path."
        )
    for key, why in _NOT_MERGED.items():
        if (config.model_extra or {}).get(key):
            raise ModelError(f"The LoRA adapter {name!r} cannot be merged: {why} ({key}).")
    return config


def _shapes(name: str, path: Path, config: _Config) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors; no rank of the configuration is larger than any of them."""
    try:
        with safe_open(path, framework="pt") as file:
            ours = OURS in (file.metadata() or {})
            names = file.keys()
            shapes = {one: tuple(file.get_slice(one).get_shape()) for one in names}
    except (SafetensorError, OSError) as error:
        reason = shortened(" ".join(str(error).split()))
        raise ModelError(f"The adapter {path} is broken and cannot be read: {reason}.") from error
    if ours:
        raise ModelError(
            f"{name!r} is an adapter that align made; name its base model, and the adapter with "
            "--adapter."
        )
    rank = max([config.r, *(config.rank_pattern or {}).values()])
    largest = max((size for shape in shapes.values() for size in shape), default=0)
    if rank > largest:  # PEFT would make tensors of that size first
        raise ModelError(
            f"The LoRA adapter {name!r} is broken: its {CONFIG} says the rank {rank:,}, where the "
            f"largest of its tensors has {largest:,} rows."
        )
    return shapes
