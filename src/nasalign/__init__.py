"""nasalign: correct a language model that says No too often, by its attention heads.

``load``, ``score``, ``select_heads``, ``align`` and ``evaluate`` do on models in memory what the
command line does on names. Each name is imported with its first use, so ``import nasalign`` takes
no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from nasalign.adapters.adapter import Adapter, load_adapter
    from nasalign.alignment import AlignResult, align
    from nasalign.config import Settings, load_preset
    from nasalign.data.records import BinaryExample, Question, load_facts
    from nasalign.errors import NasAlignError
    from nasalign.evaluation.evaluation import evaluate
    from nasalign.inference.recording import record_nas
    from nasalign.inference.scoring import Scores, score
    from nasalign.models.loading import load
    from nasalign.nas.heads import Head, select_heads
    from nasalign.prompts.user_template import PromptTemplate
    from nasalign.yes_no_classifier import YesNoClassifier

_MODULES = {
    "Adapter": "nasalign.adapters.adapter",
    "AlignResult": "nasalign.alignment",
    "BinaryExample": "nasalign.data.records",
    "Head": "nasalign.nas.heads",
    "NasAlignError": "nasalign.errors",
    "PromptTemplate": "nasalign.prompts.user_template",
    "Question": "nasalign.data.records",
    "Scores": "nasalign.inference.scoring",
    "Settings": "nasalign.config",
    "YesNoClassifier": "nasalign.yes_no_classifier",
    "align": "nasalign.alignment",
    "evaluate": "nasalign.evaluation.evaluation",
    "load": "nasalign.models.loading",
    "load_adapter": "nasalign.adapters.adapter",
    "load_facts": "nasalign.data.records",
    "load_preset": "nasalign.config",
    "record_nas": "nasalign.inference.recording",
    "score": "nasalign.inference.scoring",
    "select_heads": "nasalign.nas.heads",
}

__all__ = [
    "Adapter",
    "AlignResult",
    "BinaryExample",
    "Head",
    "NasAlignError",
    "PromptTemplate",
    "Question",
    "Scores",
    "Settings",
    "YesNoClassifier",
    "align",
    "evaluate",
    "load",
    "load_adapter",
    "load_facts",
    "load_preset",
    "record_nas",
    "score",
    "select_heads",
]


def __dir__() -> list[str]:
    """Return the public names, whether they are imported yet or not."""
    return sorted([*__all__, "__version__"])


if not TYPE_CHECKING:  # for a type checker, a name that is not above does not exist

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first used."""
        if name == "__version__":
            return import_module("importlib.metadata").version("nasalign")
        if name not in _MODULES:
            raise AttributeError(f"module 'nasalign' has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)
