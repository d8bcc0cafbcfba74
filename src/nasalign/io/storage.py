"""Writing files and folders so that each is the old or the new one, never half; the cache."""

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
"""Beside files that a run may go on from: what each is to the byte."""
_BEGIN, _END = ".nasalign-", ".partial"
"""Of the folders in which something is made; between them are random characters."""
_LEFT = re.compile(r"\.(nasalign-\w+|.+\.\d+(\.old)?)\.partial")  # the second is of old versions
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # Windows has none
_MASK = os.umask(0)  # read once: meanwhile, files of other threads would be for everybody
os.umask(_MASK)


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
    with storing(path), _workplace(path.parent) as place:
        made = place / path.name
        yield made
        _to_disk(made)
        if path.is_dir():  # a folder that is not empty cannot be renamed over
            path.rename(place / f"{path.name}.old")
        made.replace(path)


@contextmanager
def _workplace(parent: Path) -> Iterator[Path]:
    """Yields an empty folder, which is removed at the end.

    Nobody can foretell its name, nor put a link into it: it is for its owner alone.
    """
    place = Path(tempfile.mkdtemp(prefix=_BEGIN, suffix=_END, dir=parent))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


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
        old = path.with_name(f"{_BEGIN}{secrets.token_hex(8)}{_END}")
        path.rename(old)  # which needs no room on a full disk
        _remove(old)


def is_left(name: str) -> bool:
    """Says whether a file or folder of that name is what a killed process leaves half made."""
    return _LEFT.fullmatch(name) is not None


def sweep(folder: Path) -> None:
    """Removes what killed processes left half made in a folder and below; nobody else is in it."""
    for place, folders, files in os.walk(folder):  # goes into no link
        for name in filter(is_left, (*folders, *files)):
            _remove(Path(place, name))


def check_no_links(folder: Path) -> None:
    """Refuses a folder in which something is a link, or no file that could be read to its end.

    What is read, written or removed by its name in such a folder may be anywhere. The folder itself
    may be a link: its name is the user's own word.

    Raises:
        StorageError: names it.
    """
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            with suppress(FileNotFoundError):  # a run that is at work there has removed it
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
    """Waits until a file, or all files of a folder, would outlive a power cut.

    They get the rights that files have here: safetensors are otherwise for their owner alone.
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
    """Opens a file, but none that a link leads to: an ``opener`` of ``open``."""
    return os.open(path, flags | _NO_LINK, 0o666)


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
            with suppress(OSError):  # it holds the targets
                path.rmdir()


def seal(path: Path) -> None:
    """Notes the SHA-256 of a file in ``SHA256SUMS`` beside it, as ``sha256sum -c`` reads it."""
    sums = _sums(path.parent) | {path.name: sha256([path])}
    lines = (f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
    write_text(path.with_name(SUMS), "".join(lines))


def whole(path: Path, say: Callable[[str], None]) -> bool:
    """Says whether a file is there, and to the byte what was sealed; tells if it is another."""
    if not path.exists():
        return False
    if _sums(path.parent).get(path.name) == sha256([path]):
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
