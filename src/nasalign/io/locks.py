"""One run in a folder at a time: a lock of the operating system, which ends with its process."""

import errno
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from nasalign.errors import StorageError
from nasalign.io.storage import storing, without_links

LOCK = ".lock"
_WAIT = 0.2  # seconds, in which the one that has just ended is gone
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextmanager
def one_run_in(folder: Path, warn: Callable[[str], None]) -> Iterator[None]:
    """Holds a folder, which is made if it is not there; others are refused meanwhile.

    A lock that a dead process left is none. Where the file system has no locks, that is told, and
    it goes on without. A folder that was made here and stays empty is removed.

    Args:
        folder: the folder.
        warn: is told.

    Raises:
        StorageError: another process holds the folder, or it cannot be made.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    try:
        with lock(path, _WAIT) as held:
            if held:
                who = f"process {os.getpid()} on {platform.node()}"
                with suppress(OSError), open(path, "w", opener=without_links) as file:
                    file.write(who)  # it merely tells others who is here
            else:
                warn(
                    f"The file system of {folder} has no locks; see that no other run writes there."
                )
            yield
    except Timeout:
        raise StorageError(
            f"Another run is at work in {folder}: {_holder(path)}. Wait until it ends or stop it, "
            "or take another --out."
        ) from None
    finally:
        for each in made:
            with suppress(OSError):  # not empty
                each.rmdir()


@contextmanager
def lock(path: Path, wait: float) -> Iterator[bool]:
    """Holds a lock file, which vanishes with the lock; yields False where there are no locks.

    Args:
        path: the lock file.
        wait: seconds at most until it is free, or -1 to wait for ever.

    Raises:
        Timeout: it is not free.
        StorageError: it cannot be made.
    """
    file = FileLock(path, timeout=wait, fallback_to_soft=False)
    try:
        file.acquire()
    except (OSError, NotImplementedError) as error:
        if isinstance(error, Timeout):
            raise
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            with storing(path):
                raise
        path.unlink(missing_ok=True)
        yield False
        return
    try:
        yield True
    finally:
        with suppress(OSError):
            path.unlink()  # while it is held: who opens it now finds out that it has no name
        file.release()


def _holder(path: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8") or "another process"
    return "another process"
