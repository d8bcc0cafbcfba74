"""Answers of endpoints on disk, for their owner alone, so that nothing is paid for twice."""

import sqlite3
import stat
from contextlib import suppress
from pathlib import Path

from nasalign.data.conversation import Conversation
from nasalign.errors import EndpointError

_COMPANIONS = ("", "-wal", "-shm", "-journal")
"""What SQLite adds to the name of a file for those that it keeps beside it."""


class AnswerCache:
    """Answers by key, in a SQLite file; each is there for good as soon as it is put.

    Args:
        path: the file, made if it is not there.

    Raises:
        EndpointError: it is damaged, or cannot be written; all methods raise it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._open(path)
        except (sqlite3.Error, OSError) as error:
            raise _unusable(path, error) from error

    def _open(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)  # what SQLite keeps beside it gets the same rights
        own = (path.name, "smollm2", ".smollm2")  # the embedded model lies there too
        if all(one.name.startswith(own) for one in path.parent.iterdir()):
            _close_to_others(path.parent)  # not a folder of other things, such as /tmp
        for name in _COMPANIONS:
            _close_to_others(path.with_name(path.name + name))
        self._connection = sqlite3.connect(path, timeout=60, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS answers "
            "(key TEXT PRIMARY KEY, model TEXT, system TEXT, user TEXT, answer TEXT)"
        )
        (found,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(f"it is damaged ({found})")

    def get(self, key: str) -> str | None:
        """Returns an answer, or None where there is none."""
        found = self._do("SELECT answer FROM answers WHERE key = ?", key).fetchone()
        return found[0] if found else None

    def put(self, key: str, model: str, conversation: Conversation, answer: str) -> None:
        """Keeps an answer."""
        told = (key, model, conversation.system, conversation.user, answer)
        self._do("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", *told)

    def _do(self, command: str, *values: str) -> sqlite3.Cursor:
        try:
            return self._connection.execute(command, values)
        except sqlite3.Error as error:
            raise _unusable(self._path, error) from error


def _close_to_others(path: Path) -> None:
    """Takes from others every right to a file or folder that is there, if it is ours."""
    with suppress(FileNotFoundError, PermissionError):  # it belongs to somebody else
        mode = path.stat().st_mode
        if mode & 0o077 and not mode & stat.S_ISVTX:  # such as /tmp, where root owns it
            path.chmod(mode & 0o7700)


def _unusable(cache: Path, error: Exception) -> EndpointError:
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    return EndpointError(
        f"The cache of answers {cache} cannot be used: {reason}. Remove it if it is damaged, or "
        "set NASALIGN_CACHE to a folder that can be written and has room."
    )
