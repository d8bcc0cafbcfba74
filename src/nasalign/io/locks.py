"""One run in a folder at a time, by a lock of the operating system that ends with its process."""

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
_WAIT = 0.2  # seconds, for a process that is just ending
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextmanager
def one_run_in(folder: Path, warn: Callable[[str], None]) -> Iterator[None]:
    """Lock a folder against other runs; make it if needed, and remove it if it stays empty.

    Stale locks are ignored. Without locks in the file system it warns and continues. Raise
    StorageError if another process holds the folder, or if it cannot be made.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    try:
        with lock(path, _WAIT) as held:
            if not held:
                warn(
                    f"The file system of {folder} has no locks; see that no other run writes there."
                )
            else:  # for the error message of others
                with suppress(OSError), open(path, "w", opener=without_links) as file:
                    file.write(f"process {os.getpid()} on {platform.node()}")
            yield
    except Timeout:
        holder = ""
        with suppress(OSError, UnicodeDecodeError):
            holder = path.read_text(encoding="utf-8")
        raise StorageError(
            f"Another run is at work in {folder}: {holder or 'another process'}. Wait until it "
            "ends or stop it, or take another --out."
        ) from None
    finally:
        for each in made:
            with suppress(OSError):  # not empty
                each.rmdir()


@contextmanager
def lock(path: Path, wait: float) -> Iterator[bool]:
    """Hold a lock file, which is removed at the end; yield False where there are no locks.

    Raise Timeout if it is not free after ``wait`` seconds (-1: wait for ever).
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
            path.unlink()  # while it is locked, so that a waiting process opens a new file
        file.release()
