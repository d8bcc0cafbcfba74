"""Rows of JSONL, JSON and CSV files, each with its place in the file for messages.

A broken row ends the reading with an error. A valid row that cannot be used raises ``Drop``, and
is counted in ``Dropped``.
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from nasalign.errors import DataError, shortened

_SURROGATE = re.compile("[\ud800-\udfff]")
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Drop(Exception):  # noqa: N818 - it is a decision, not an error
    """A row cannot be used; the message is the reason, by which such rows are counted."""


@dataclass
class Dropped:
    """Rows and questions that could not be used: their counts and the first place, by reason."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, where: str) -> None:
        """Count one."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self.first.setdefault(reason, where)

    def sentences(self) -> list[str]:
        """Return one sentence for each reason, the most frequent first."""
        order = sorted(self.counts, key=lambda reason: (-self.counts[reason], reason))
        return [
            f"Left out: {self.counts[reason]} ({reason}; the first is {self.first[reason]})."
            for reason in order
        ]


@dataclass(frozen=True)
class Row:
    """One row; ``where`` is its place for messages, ``number`` counts the rows from 1."""

    where: str
    number: int
    values: Mapping[str, Any]

    def text(self, key: str) -> str:
        """Return a text or number as text, or raise DataError, as the other methods do."""
        value = self.values.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value) if value - value == 0 else None  # neither infinite nor NaN
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"{self.where} has no text in {key!r}.")
        return self._whole(value.strip(), key)

    def optional_text(self, key: str) -> str | None:
        """Return a text, or None where the column is missing or empty."""
        return self.text(key) if self.values.get(key) not in (None, "") else None

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts, or a text separated by ``|``, without the empty ones."""
        value = self.values.get(key)
        if value in (None, ""):
            return ()
        parts = value.split("|") if isinstance(value, str) else value
        valid = isinstance(parts, list) and all(isinstance(it, str | int | float) for it in parts)
        if not valid:
            raise DataError(f"{self.where} has neither a text nor a list in {key!r}.")
        texts = (self._whole(str(part).strip(), key) for part in parts)
        return tuple(text for text in texts if text)

    def rows(self, key: str) -> list["Row"]:
        """Return the rows of a list of objects, each with the place of this one."""
        value = self.values.get(key)
        if not isinstance(value, list) or not all(isinstance(part, Mapping) for part in value):
            raise DataError(f"{self.where} has no list of objects in {key!r}.")
        return [Row(self.where, self.number, part) for part in value]

    def truth(self, key: str) -> bool:
        """Return a column that must hold true or false, yes or no, 1 or 0."""
        value = self.values.get(key)
        truth = _TRUTHS.get(str(value).strip().casefold())
        if truth is None:
            said = shortened(str(value))
            raise DataError(f"{self.where} has the {key} {said}; it must be true or false.")
        return truth

    def _whole(self, text: str, key: str) -> str:
        """Return a text, unless no file and no tokenizer can take it."""
        if _SURROGATE.search(text):
            raise DataError(
                f"{self.where} has half a character in {key!r} (a lone UTF-16 surrogate, such as "
                "\\ud800); write it as valid Unicode."
            )
        return text


def read_data_rows(path: str | Path) -> Iterator[Row]:
    """Yield the rows of a ``.jsonl``, ``.json`` (an array, read whole) or ``.csv`` file.

    Raise DataError if it cannot be read, is not UTF-8, or is broken; file and line are named.
    """
    path = Path(path)
    readers = {".csv": _csv_rows, ".json": _json_rows, ".jsonl": _jsonl_rows}
    reader = readers.get(path.suffix.lower())
    try:
        with path.open(encoding="utf-8-sig") as file:
            if reader is None:
                raise DataError(f"{path} is neither .jsonl nor .json nor .csv.")
            for number, (where, values) in enumerate(reader(path, file), start=1):
                if not isinstance(values, Mapping):
                    raise DataError(f"{where} is not an object with columns by name.")
                yield Row(where, number, values)
    except OSError as error:
        raise DataError(f"Cannot read the data file {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        place = _place_of_bad_byte(path)
        raise DataError(f"{path} is not UTF-8 text: {error.reason} at {place}.") from error


def _csv_rows(path: Path, file: TextIO) -> Iterator[tuple[str, Any]]:
    csv.field_size_limit(2**31 - 1)  # a context may be long
    reader = csv.DictReader(file, strict=True)
    try:
        names = [name for name in reader.fieldnames or () if name]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(f"{path} has the column {twice[0]!r} twice; only one could be read.")
        for values in reader:
            where = f"{path}, line {reader.line_num}"
            if None in values:
                raise DataError(f"{where} has more fields than the header; quote what has a comma.")
            yield where, values
    except csv.Error as error:
        raise DataError(f"{path}, after line {reader.line_num}, is not CSV: {error}.") from error


def _jsonl_rows(path: Path, file: TextIO) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            where = f"{path}, line {number}"
            yield where, _parsed(where, line)


def _json_rows(path: Path, file: TextIO) -> Iterator[tuple[str, Any]]:
    rows = _parsed(str(path), file.read())
    if not isinstance(rows, list):
        raise DataError(f"{path} must hold a JSON array of rows.")
    for number, values in enumerate(rows, start=1):
        yield f"{path}, row {number}", values


def _parsed(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = f"{f'line {error.lineno}, ' if error.lineno > 1 else ''}column {error.colno}"
        raise DataError(f"{where} is not valid JSON: {error.msg} at {at}.") from error
    except RecursionError as error:
        raise DataError(f"{where} has lists or objects nested too deep.") from error
    except ValueError as error:  # Python reads no number of more than 4,300 digits
        raise DataError(f"{where} has a number of too many digits.") from error


def _place_of_bad_byte(path: Path) -> str:
    """Line and byte of the first byte that is not UTF-8; the error counts from its buffer."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return f"line {number}, byte {error.start + 1}"
    return "its end"
