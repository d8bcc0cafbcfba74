"""The errors a user meets: one sentence that says what is wrong and what to do next."""


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


class Terminated(KeyboardInterrupt):
    """The process was told to end (SIGTERM); whoever cleans up after Ctrl-C does so then."""


class NothingToFixError(NasAlignError):
    """The probing set has no false negative: the model has no negative bias here. Exits with 0."""
