"""Models by name: the id on the hub, the last part of a local path, and which weights these are."""

import re
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from nasalign.models.aliases import EMBEDDED_MODELS, local_path
from nasalign.models.lora_files import find_adapter

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def hub_id(name: str) -> str | None:
    """Return the id on the hub that ``load`` takes a name for; None for a local model."""
    if name in EMBEDDED_MODELS:
        return EMBEDDED_MODELS[name].hub
    local = name.endswith(".gguf") or Path(name).is_dir() or not _HUB_ID.fullmatch(name)
    return None if local else name


def public_name(name: str) -> str:
    """Return the id on the hub, or of a local model the last name: no folder of this machine."""
    path = Path(name)
    return hub_id(name) or (path if path.suffix == ".gguf" else path.resolve()).name


def weights_stamp(name: str) -> list[list[str | int]]:
    """Return what changes with the weights that ``load`` takes a name for, without reading them.

    Files of a local model with their sizes and times in nanoseconds, or the commit of a hub model
    in the cache; empty where it is not in the cache yet. Of an adapter, its base model's too.
    """
    adapter = find_adapter(name, offline=True)
    if adapter:
        return _stamp(str(adapter.folder)) + _stamp(adapter.base)
    return _stamp(name)


def _stamp(name: str) -> list[list[str | int]]:
    if name in EMBEDDED_MODELS:
        return [[EMBEDDED_MODELS[name].sha256]]
    path = local_path(name)
    files = sorted(path.iterdir()) if path.is_dir() else [path] * path.is_file()
    if files:
        return [[one.name, one.stat().st_size, one.stat().st_mtime_ns] for one in files]
    config = try_to_load_from_cache(name, "config.json") if hub_id(name) else None
    return [[Path(config).parent.name]] if isinstance(config, str) else []
