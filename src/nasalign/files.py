"""Writing plain files so that each is the old or the new one, never half of one; the cache."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nasalign.errors import NasAlignError, StorageError

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
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """Waits until a file, or all files of a folder, would outlive a power cut."""
    for part in path.rglob("*") if path.is_dir() else [path]:
        if part.is_file():
            with part.open("rb+") as file:
                os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Writes a text to a temporary name in the same folder and renames it."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes bytes as ``write_text`` writes a text."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON; an infinite number is written as text ("-inf")."""
    write_text(path, json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes rows as JSON lines."""
    lines = (json.dumps(plain(row), ensure_ascii=False) + "\n" for row in rows)
    write_text(path, "".join(lines))


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    """Appends one JSON line."""
    with storing(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(plain(row), ensure_ascii=False) + "\n")


def write_tensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Writes tensors as safetensors."""
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        save_file(whole, temporary, metadata)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads safetensors that were written here.

    Raises:
        NasAlignError: the file is cut off, or something else.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise NasAlignError(f"{path} is broken: {error}.") from error


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Reads JSON lines that were written here; a last line that was cut off is left out.

    Raises:
        NasAlignError: another line is broken.
    """
    try:
        *lines, _ = path.read_text(encoding="utf-8").split("\n")  # a text may hold other line ends
        return [json.loads(line) for line in lines]
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise NasAlignError(f"{path} has a line that is not valid JSON: {error}.") from error


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        NasAlignError: it is not there or broken.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NasAlignError(f"Cannot read {path}: {error.strerror}.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise NasAlignError(f"{path} is not valid JSON: {error}.") from error


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


def plain(value: Any) -> Any:
    """Returns a value as it is written: JSON has no infinity and no NaN, so these are text."""
    if isinstance(value, float) and value - value != 0:
        return str(value)
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value
