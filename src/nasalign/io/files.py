"""Formats of files: JSON, JSON lines, CSV, and tensors."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nasalign.errors import NasAlignError
from nasalign.io.digests import sha256
from nasalign.io.storage import replacing, storing, without_links, write_text

_FORMULA = ("=", "+", "-", "@")  # a cell that starts so is a formula to a spreadsheet


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON; infinity and NaN become text ("-inf")."""
    write_text(path, json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as JSON lines."""
    lines = (json.dumps(plain(row), ensure_ascii=False) + "\n" for row in rows)
    write_text(path, "".join(lines))


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    """Append one JSON line."""
    with storing(path), open(path, "a", encoding="utf-8", opener=without_links) as file:
        file.write(json.dumps(plain(row), ensure_ascii=False) + "\n")


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the text of a CSV file in which no cell is a formula to a spreadsheet.

    Text is put on one line, with an apostrophe before what starts a formula. None is an empty cell.
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
    """Write tensors as safetensors."""
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        save_file(whole, temporary, metadata)


def tensor_digest(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """Return the SHA-256 of a text and of tensors by name, shape and bytes, on any device."""

    def parts() -> Iterator[str | bytes]:
        yield text
        for name, tensor in sorted(tensors.items()):
            # As bytes, since numpy has no bfloat16.
            raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            yield from (f"{name}{tuple(tensor.shape)}", raw.numpy().tobytes())

    return sha256(parts())


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read safetensors, or raise NasAlignError if the file is broken."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise NasAlignError(f"{path} is broken: {error}.") from error


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines; an incomplete last line is left out, any other raises NasAlignError."""
    try:
        # Not splitlines: a JSON text may hold other line ends, such as U+2028.
        *lines, _ = path.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines]
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise NasAlignError(f"{path} has a line that is not valid JSON: {error}.") from error


def check_rows(
    rows: Sequence[Mapping[str, Any]], asked: Sequence[Mapping[str, Any]], what: str
) -> None:
    """Raise NasAlignError if rows of a resumed run do not have the values asked of their columns.

    A missing column counts as None; ``what`` is the data, or the file, for the message.
    """
    nothing: Mapping[str, Any] = {}
    for number, (row, wanted) in enumerate(zip_longest(rows, asked, fillvalue=nothing), start=1):
        if not wanted or any(row.get(name) != value for name, value in wanted.items()):
            raise NasAlignError(
                f"The run was begun with other examples of {what} (row {number} is not what is "
                "asked now); take another --out, or begin again with --overwrite."
            )


def read_json(path: Path) -> Any:
    """Read a JSON file, or raise NasAlignError if it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NasAlignError(f"Cannot read {path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise NasAlignError(f"{path} is not valid JSON: {error}.") from error


def plain(value: Any) -> Any:
    """Return a value for JSON, with infinity and NaN, which it lacks, as text."""
    if isinstance(value, float) and value - value != 0:
        return str(value)
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value
