"""nasalign: correct a language model that says No too often, by its attention heads.

``load``, ``score``, ``select_heads``, ``align`` and ``evaluate`` do on models in memory what the
command line does on names; torch is imported with the first of them that is used.
"""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "Adapter": "nasalign.adapters.adapter",
    "BinaryExample": "nasalign.data.records",
    "NasAlignError": "nasalign.errors",
    "Question": "nasalign.data.records",
    "align": "nasalign.alignment",
    "evaluate": "nasalign.evaluation.evaluation",
    "load": "nasalign.models.loading",
    "load_adapter": "nasalign.adapters.adapter",
    "load_facts": "nasalign.data.records",
    "preset_for": "nasalign.session",
    "score": "nasalign.inference.scoring",
    "select_heads": "nasalign.nas.heads",
}

__all__ = [
    "Adapter",
    "BinaryExample",
    "NasAlignError",
    "Question",
    "align",
    "evaluate",
    "load",
    "load_adapter",
    "load_facts",
    "preset_for",
    "score",
    "select_heads",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("nasalign")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'nasalign' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
