"""Public names of models: the id on the hub, or the last part of a local path."""

import re
from pathlib import Path

from nasalign.models.embedded import EMBEDDED_MODELS

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
