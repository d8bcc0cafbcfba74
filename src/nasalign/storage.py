"""Writing files and folders so that each is the old or the new one, never half; the cache."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from platformdirs import user_cache_path
from safetensors import SafetensorError

from nasalign.errors import StorageError

SUMS = "SHA256SUMS"
"""Beside files that a run may go on from: what each is to the byte."""
_PARTIAL = (".partial", ".old.partial")
"""How names end of what is being made, and of what is being removed."""


def cache_folder() -> Path:
    """Returns the folder of what is kept between runs: ``NASALIGN_CACHE``, or the user's own."""
    override = os.environ.get("NASALIGN_CACHE")
    return Path(override) if override else user_cache_path("nasalign")


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turns what keeps a file from being written into one sentence.

    Raises:
        StorageError: the disk is full, a right is missing, or the like.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).rpartition("I/O error: ")[2]
        raise StorageError(
            f"Cannot write {path}: {reason.rstrip('.')}. What was written before is whole; see to "
            "that, and run it again (align and compare go on with --resume)."
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a name beside a file or folder; what is made there takes its place at the end.

    Until then the old one stays, and whatever goes wrong leaves nothing else. What a killed process
    leaves is for ``sweep``.

    Raises:
        StorageError: it cannot be written.
    """
    temporary, old = (path.with_name(f".{path.name}.{os.getpid()}{end}") for end in _PARTIAL)
    try:
        with storing(path):
            yield temporary
            _to_disk(temporary)
            if path.is_dir():  # a folder that is not empty cannot be renamed over
                path.rename(old)
            temporary.replace(path)
    finally:
        _remove(temporary)
        _remove(old)


def make_subfolder(path: Path) -> None:
    """Makes a folder if it is not there.

    Raises:
        StorageError: it cannot be made.
    """
    with storing(path):
        path.mkdir(parents=True, exist_ok=True)


def remove_folder(path: Path) -> None:
    """Removes a folder, if it is there, so that never half of it is there by its name."""
    if path.is_dir():
        old = path.with_name(f".{path.name}.{os.getpid()}{_PARTIAL[1]}")
        path.rename(old)
        _remove(old)


def sweep(folder: Path) -> None:
    """Removes what killed processes left half made in a folder and below; nobody else is in it."""
    for end in _PARTIAL:
        for path in list(folder.rglob(f".*{end}")):
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():  # what a link points to is not ours
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """Waits until a file, or all files of a folder, would outlive a power cut.

    They get the rights that files have here: safetensors are otherwise for their owner alone.
    """
    mask = os.umask(0)
    os.umask(mask)
    for part in path.rglob("*") if path.is_dir() else [path]:
        if part.is_file():
            part.chmod(0o666 & ~mask)
            with part.open("rb+") as file:
                os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Writes a text to a temporary name in the same folder and renames it."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes bytes as ``write_text`` writes a text."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def beside(*targets: Path) -> Iterator[Path]:
    """Yields an empty folder in which to make targets of one parent, each by its name.

    At the end all of them are moved to where they belong; after a failure none is there. The folder
    is cleared away, and so are parents that were made for targets that did not come to be.
    """
    first = targets[0]
    parents = [path for path in first.parents if not path.exists()]  # the innermost first
    temporary = first.with_name(f".{first.name}.{os.getpid()}{_PARTIAL[0]}")
    moved: list[Path] = []
    try:
        temporary.mkdir(parents=True)
        yield temporary
        _to_disk(temporary)
        for target in targets:
            (temporary / target.name).rename(target)
            moved.append(target)
        moved.clear()
    finally:
        for path in (temporary, *moved):
            _remove(path)
        for path in parents:
            with suppress(OSError):  # it holds the targets
                path.rmdir()


def seal(path: Path) -> None:
    """Notes the SHA-256 of a file in ``SHA256SUMS`` beside it, as ``sha256sum -c`` reads it."""
    sums = _sums(path.parent) | {path.name: _sha256(path)}
    lines = (f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
    write_text(path.with_name(SUMS), "".join(lines))


def whole(path: Path, say: Callable[[str], None]) -> bool:
    """Says whether a file is there, and to the byte what was sealed; tells if it is another."""
    if not path.exists():
        return False
    if _sums(path.parent).get(path.name) == _sha256(path):
        return True
    say(f"{path} is not what the run wrote (see {SUMS} beside it), so it is made again.")
    return False


def _sums(folder: Path) -> dict[str, str]:
    """The SHA-256 of the files of a folder by their names, as far as they can be read."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines) if name}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
