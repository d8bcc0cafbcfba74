"""Answers of endpoints on disk, so that nothing is paid for twice."""

import sqlite3
from pathlib import Path

from nasalign.data.chat import Conversation
from nasalign.errors import EndpointError


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
        path.parent.mkdir(parents=True, exist_ok=True)
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


def _unusable(cache: Path, error: Exception) -> EndpointError:
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    return EndpointError(
        f"The cache of answers {cache} cannot be used: {reason}. Remove it if it is damaged, or "
        "set NASALIGN_CACHE to a folder that can be written and has room."
    )
