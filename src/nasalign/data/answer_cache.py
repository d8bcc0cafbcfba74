"""Answers of endpoints on disk, readable by their owner alone, so that none is paid for twice."""

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nasalign.data.conversation import Conversation
from nasalign.errors import EndpointError


class AnswerCache:
    """Answers by key, in a SQLite file that is made if needed; each is stored as soon as it is put.

    All methods raise EndpointError where the file is damaged, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._explained():
            self._open(path)

    def _open(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)  # what SQLite keeps beside it gets the same rights
        own = (path.name, "results", "smollm2", ".smollm2")  # the embedded model is there too
        if all(one.name.startswith(own) for one in path.parent.iterdir()):
            _close_to_others(path.parent)  # not a folder with other files, such as /tmp
        for companion in ("", "-wal", "-shm", "-journal"):  # files that SQLite keeps beside it
            _close_to_others(path.with_name(path.name + companion))
        # The threads of an endpoint write in turn, under its lock.
        self._connection = sqlite3.connect(
            path, timeout=60, isolation_level=None, check_same_thread=False
        )
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS answers "
            "(key TEXT PRIMARY KEY, model TEXT, system TEXT, user TEXT, answer TEXT)"
        )
        (found,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(f"it is damaged ({found})")

    def get(self, key: str) -> str | None:
        """Return an answer, or None if there is none."""
        with self._explained():
            command = "SELECT answer FROM answers WHERE key = ?"
            found = self._connection.execute(command, (key,)).fetchone()
        return found[0] if found else None

    def put(self, key: str, model: str, conversation: Conversation, answer: str) -> None:
        """Store an answer."""
        row = (key, model, conversation.system, conversation.user, answer)
        with self._explained():
            self._connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", row)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
            raise EndpointError(
                f"The cache of answers {self._path} cannot be used: {reason}. Remove it if it is "
                "damaged, or set NASALIGN_CACHE to a folder that can be written and has room."
            ) from error


def _close_to_others(path: Path) -> None:
    """Remove all rights of others to a file or folder, if it exists and is ours."""
    with suppress(FileNotFoundError, PermissionError):  # it belongs to somebody else
        mode = path.stat().st_mode
        if mode & 0o077 and not mode & stat.S_ISVTX:  # such as /tmp, for root
            path.chmod(mode & 0o7700)
