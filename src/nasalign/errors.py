"""The errors a user meets: one sentence that says what is wrong and what to do next."""

import re

# What moves the cursor, rings, colours, hides or turns round what follows, or is no character.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class NasAlignError(Exception):
    """A user's mistake or an unmet condition; the command line prints it and exits with 2."""


class PromptError(NasAlignError):
    """A prompt cannot be scored: an answer word is not found, or it is longer than the context."""


class StorageError(NasAlignError):
    """A file cannot be written: a full disk, a missing right, a folder that another run holds."""


class DataError(NasAlignError):
    """A data file is broken or empty; the sentence names the file and the line."""


class EndpointError(NasAlignError):
    """An endpoint cannot be used; what it answered before is kept."""


class ModelError(NasAlignError):
    """A model cannot be loaded, or its architecture is not supported."""


class OutOfMemoryError(NasAlignError):
    """Memory does not hold what a step needs, not even for one item; says what would help."""


class Terminated(KeyboardInterrupt):
    """The process was told to end (SIGTERM); whoever cleans up after Ctrl-C does so then."""


class NothingToFixError(NasAlignError):
    """The probing set has no false negative: the model has no negative bias here. Exits with 0."""


def shortened(text: str, longest: int = 200) -> str:
    """Returns a text as a message quotes it: of a long one the beginning and the end."""
    if len(text) > longest:
        text = f"{text[: longest // 2]} ... {text[-longest // 2 :]}"
    return repr(text)


def visible(text: str) -> str:
    """Returns a text as a terminal may show it: control characters stand there as ``\\x1b``."""
    return _UNSEEN.sub(lambda found: ascii(found[0])[1:-1], text)
