"""Errors that a user sees: one sentence that says what is wrong and what to do."""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# Control, bidirectional and surrogate characters, which would change what a terminal shows.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class NasAlignError(Exception):
    """A user's mistake or an unmet condition; the command line prints it and exits with 2."""


class PromptError(NasAlignError):
    """A prompt cannot be scored: an answer word is not found, or it is longer than the context."""


class StorageError(NasAlignError):
    """A file cannot be written: a full disk, a missing right, a folder that another run holds."""


class DataError(NasAlignError):
    """A data file is broken or empty; the sentence names the file and the line.

    The message is one line: line ends in the name of a column that it quotes are written out.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message.replace("\r", "\\r").replace("\n", "\\n"))


class InputError(DataError, ValueError):
    """Rows or labels given to an estimator do not fit; a ValueError, as scikit-learn expects."""


class EndpointError(NasAlignError):
    """An endpoint cannot be used; its earlier answers are kept."""


class ModelError(NasAlignError):
    """A model cannot be loaded, or its architecture is not supported."""


class OutOfMemoryError(NasAlignError):
    """A step runs out of memory even for one item; the message says what would help."""


class Terminated(KeyboardInterrupt):
    """The process received SIGTERM; a KeyboardInterrupt, so that the same cleanup runs."""


class NothingToFixError(NasAlignError):
    """The probing set has no false negative: the model has no negative bias here. Exits with 0."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a sentence with the nearest of the known names, with a space before, or ""."""
    near = difflib.get_close_matches(name, known, 1)
    return f" Did you mean {near[0]!r}?" if near else ""


def shortened(text: str, longest: int = 200) -> str:
    """Return a text in quotes for a message; of a long one the beginning and the end."""
    if len(text) > longest:
        text = f"{text[: longest // 2]} ... {text[-longest // 2 :]}"
    return repr(text)


def foreign_adapter(weights: Path, config: Mapping[str, Any]) -> ModelError:
    """Return the error for an adapter that is not one of nasalign's own form.

    Args:
        weights: its file.
        config: of the adapter; without its base model it is a KeyError.
    """
    base_model = str(config["base_model_name_or_path"])
    if config.get("alora_invocation_tokens"):
        return ModelError(
            f"{weights} is activated by tokens of the prompt, for PEFT, llama.cpp and vLLM; "
            "nasalign takes the adapter of a run of align."
        )
    return ModelError(
        f"{weights} was not written by nasalign. If another tool made it as a LoRA of "
        f"{shortened(base_model)}, give the folder as MODEL: it is merged into that on loading."
    )


def visible(text: str) -> str:
    """Return a text with control characters written out (``\\x1b``), safe for a terminal."""
    return _UNSEEN.sub(lambda found: ascii(found[0])[1:-1], text)
