"""Atomic writing of files and folders; checksums of a run's files; the cache folder."""

import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from platformdirs import user_cache_path
from safetensors import SafetensorError

from nasalign.errors import StorageError
from nasalign.io.digests import sha256

SUMS = "SHA256SUMS"
"""Name of the file with the checksums of files that a run may be resumed from."""
_BEGIN, _END = ".nasalign-", ".partial"  # of temporary folders; random characters between
_LEFT = re.compile(r"\.(nasalign-\w+|.+\.\d+(\.old)?)\.partial")  # the second is of old versions
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # Windows has none
_MASK = os.umask(0)  # only at import: until it is set back, other threads' files have all rights
os.umask(_MASK)


def cache_folder() -> Path:
    """Return the cache folder: ``NASALIGN_CACHE``, or the user's cache of the platform."""
    override = os.environ.get("NASALIGN_CACHE")
    return Path(override) if override else user_cache_path("nasalign")


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Raise StorageError in place of an error of the file system, such as a full disk."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).rpartition("I/O error: ")[2]
        raise StorageError(
            f"Cannot write {path}: {reason.rstrip('.')}. Files written before are complete; fix "
            "the cause and run it again (align and compare: with --resume)."
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path for a file or folder, which replaces ``path`` at the end.

    After an error, the old one is unchanged. ``sweep`` removes what a killed process left.
    """
    with storing(path), _workplace(path.parent) as place:
        made = place / path.name
        yield made
        _to_disk(made)
        if path.is_dir():  # a folder that is not empty cannot be renamed over
            path.rename(place / f"{path.name}.old")
        made.replace(path)


@contextmanager
def _workplace(parent: Path) -> Iterator[Path]:
    """Yield an empty folder, which is removed at the end.

    Its name is random and only its owner can write into it, so nobody can put a link there.
    """
    place = Path(tempfile.mkdtemp(prefix=_BEGIN, suffix=_END, dir=parent))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def make_subfolder(path: Path) -> None:
    """Make a folder and its parents where they are missing, or raise StorageError."""
    with storing(path):
        path.mkdir(parents=True, exist_ok=True)


def remove_folder(path: Path) -> None:
    """Remove a folder, if there is one, after renaming it: never half of it has its name."""
    if path.is_dir():
        old = path.with_name(f"{_BEGIN}{secrets.token_hex(8)}{_END}")
        path.rename(old)  # unlike a new folder, this needs no space on a full disk
        _remove(old)


def is_left(name: str) -> bool:
    """Whether a file or folder of that name is a partial one that a killed process left."""
    return _LEFT.fullmatch(name) is not None


def sweep(folder: Path) -> None:
    """Remove partial files that killed processes left in a folder that nobody else uses."""
    for place, folders, files in os.walk(folder):  # which follows no link
        for name in filter(is_left, (*folders, *files)):
            _remove(Path(place, name))


def check_no_links(folder: Path) -> None:
    """Raise StorageError if a folder holds a link, or anything but files and folders.

    A path through a link may lead anywhere. The folder itself may be one: the user named it.
    """
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            with suppress(FileNotFoundError):  # a running process has removed it
                mode = Path(place, name).lstat().st_mode
                if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                    kind = "a link" if stat.S_ISLNK(mode) else "no regular file"
                    raise StorageError(
                        f"{Path(place, name)} is {kind}, which no run leaves, so nothing in "
                        f"{folder} was read or changed; take it away, or copy the run by `cp -rL`."
                    )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():  # what a link points to is not ours
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """Flush a file, or all files of a folder, to disk, and give them the usual rights.

    Otherwise those of safetensors would be readable for their owner alone.
    """
    for part in path.rglob("*") if path.is_dir() else [path]:
        if part.is_dir():
            continue
        descriptor = os.open(part, os.O_RDWR | _NO_LINK)
        try:
            if hasattr(os, "fchmod"):
                os.fchmod(descriptor, 0o666 & ~_MASK)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def without_links(path: str, flags: int) -> int:
    """An ``opener`` of ``open`` that refuses links."""
    return os.open(path, flags | _NO_LINK, 0o666)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def beside(*targets: Path) -> Iterator[Path]:
    """Yield an empty folder in which to make several targets of one parent, by their names.

    At the end all of them are moved to their places; after an error none is there, nor are parents
    that were made for them.
    """
    parent = targets[0].parent
    parents = [path for path in (parent, *parent.parents) if not path.exists()]  # innermost first
    moved: list[Path] = []
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with _workplace(parent) as workplace:
            yield workplace
            _to_disk(workplace)
            for target in targets:
                (workplace / target.name).rename(target)
                moved.append(target)
        moved.clear()
    finally:
        for path in moved:
            _remove(path)
        for path in parents:
            with suppress(OSError):  # it is not empty
                path.rmdir()


def seal(path: Path) -> None:
    """Write the SHA-256 of a file to ``SHA256SUMS`` beside it, as ``sha256sum -c`` reads it."""
    sums = _sums(path.parent) | {path.name: sha256([path])}
    lines = (f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
    write_text(path.with_name(SUMS), "".join(lines))


def whole(path: Path, say: Callable[[str], None]) -> bool:
    """Whether a file exists with the content that was sealed; say so if it has another."""
    sealed = path.exists() and _sums(path.parent).get(path.name) == sha256([path])
    if path.exists() and not sealed:
        say(f"{path} is not what the run wrote (see {SUMS} beside it), so it is made again.")
    return sealed


def _sums(folder: Path) -> dict[str, str]:
    """The SHA-256 of the files of a folder by name; none if the list cannot be read."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines) if name}
