"""Writing files and folders so that each is the old or the new one, never half; the cache."""

import csv
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path
from safetensors.torch import load_file, save_file
from torch import Tensor

from nasalign.errors import NasAlignError

_FORMULA = ("=", "+", "-", "@")  # what spreadsheets take for the start of a formula


def cache_folder() -> Path:
    """Returns the folder of what is kept between runs: ``NASALIGN_CACHE``, or the user's own."""
    override = os.environ.get("NASALIGN_CACHE")
    return Path(override) if override else user_cache_path("nasalign")


def write_text(path: Path, text: str) -> None:
    """Writes a text to a temporary name in the same folder and renames it."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes bytes as ``write_text`` writes a text."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def beside(*targets: Path) -> Iterator[Path]:
    """Yields an empty folder in which to make targets of one parent, each by its name.

    At the end all of them are moved to where they belong; after a failure none is there. The folder
    is cleared away, and so are parents that were made for targets that did not come to be.
    """
    first = targets[0]
    parents = [path for path in first.parents if not path.exists()]  # the innermost first
    temporary = first.with_name(f".{first.name}.{os.getpid()}")
    moved: list[Path] = []
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for target in targets:
            (temporary / target.name).rename(target)
            moved.append(target)
        moved.clear()
    finally:
        for path in (temporary, *moved):
            shutil.rmtree(path, ignore_errors=True)
            if path.is_file():
                path.unlink()
        for path in parents:
            with suppress(OSError):  # it holds the targets
                path.rmdir()


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON; an infinite number is written as text ("-inf")."""
    write_text(path, json.dumps(_finite(value), indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes rows as JSON lines."""
    lines = (json.dumps(_finite(row), ensure_ascii=False) + "\n" for row in rows)
    write_text(path, "".join(lines))


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    """Appends one JSON line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(_finite(row), ensure_ascii=False) + "\n")


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Returns the text of a CSV file; in no cell of it does a spreadsheet find a formula.

    A text is put on one line, and one that begins as a formula does gets an apostrophe before it.
    Numbers stay as they are, and None is an empty cell.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_cell(column) for column in columns])
    writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = " ".join(value.replace("\ufeff", " ").split())
    return f"'{text}" if text.startswith(_FORMULA) else text


def write_tensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Writes tensors as safetensors."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(whole, temporary, metadata)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads safetensors that were written here."""
    return load_file(path)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Reads JSON lines that were written here; a last line that was cut off is left out."""
    *lines, _ = path.read_text(encoding="utf-8").split("\n")  # a text may hold other line ends
    return [json.loads(line) for line in lines]


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        NasAlignError: it is not there or broken.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NasAlignError(f"Cannot read {path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise NasAlignError(f"{path} is not valid JSON: {error}.") from error


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN; they are written as text."""
    if isinstance(value, float) and value - value != 0:
        return str(value)
    if isinstance(value, dict):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value
