"""A row of data with its place in its file, and the rows that could not be used.

A row that cannot be read raises ``BrokenRow``. A valid row that is of no use raises ``Drop``. Both
are counted in ``Dropped``.
"""

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from nasalign.errors import DataError, shortened

SHOWN = 3
"""Places that a sentence names for each reason; a run lists all of them in ``left_out.jsonl``."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_MISSING = frozenset({"", "nan", "NaN", "NAN", "<NA>", "NaT"})  # as pandas writes them
_NOTHING = frozenset({"none", "null"})  # an answer can be "None", but no other column
# How the arrays of numpy look in a cell of a CSV file that pandas has written.
_ARRAY = re.compile(r"array\((\[[^\]]*\])(?:, dtype=\w+)?\)")
_NO_COMMA = re.compile(r"(?<=['\"])\s+(?=['\"])")


class Drop(Exception):  # noqa: N818 - it is a decision, not an error
    """A row cannot be used; the message is the reason, by which such rows are counted."""


class BrokenRow(DataError):  # noqa: N818 - named after the row
    """A row lacks a value, or has one that cannot be read.

    Attributes:
        reason: what is wrong without the value and the place, by which such rows are counted.
    """

    def __init__(self, where: str, what: str, reason: str = "") -> None:
        super().__init__(f"{where} {what}.")
        self.reason = reason or f"it {what}"


@dataclass(frozen=True)
class LeftOut:
    """One row or question that could not be used: its place, and what else there is to say."""

    where: str
    detail: str = ""


@dataclass
class Dropped:
    """Rows and questions that could not be used, by reason."""

    rows: dict[str, list[LeftOut]] = field(default_factory=dict)

    def add(self, reason: str, where: str, detail: str = "") -> None:
        """Note one."""
        self.rows.setdefault(reason, []).append(LeftOut(where, detail))

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of each reason."""
        return {reason: len(rows) for reason, rows in self.rows.items()}

    @property
    def first(self) -> dict[str, str]:
        """The first place of each reason."""
        return {reason: rows[0].where for reason, rows in self.rows.items()}

    def since(self, before: "Dropped") -> "Dropped":
        """Return what was added to a copy of ``before``."""
        rows = {why: found[len(before.rows.get(why, ())) :] for why, found in self.rows.items()}
        return Dropped({why: found for why, found in rows.items() if found})

    def copy(self) -> "Dropped":
        """Return a copy to which more can be added."""
        return Dropped({why: list(found) for why, found in self.rows.items()})

    def sentences(self) -> list[str]:
        """Return one sentence for each reason, the most frequent first, with the first places."""
        order = sorted(self.rows, key=lambda reason: (-len(self.rows[reason]), reason))
        return [f"Left out: {len(self.rows[one])} ({one}; {self._places(one)})." for one in order]

    def _places(self, reason: str) -> str:
        shown = [one.where for one in self.rows[reason][:SHOWN]]
        return (
            f"the first is {shown[0]}" if len(shown) == 1 else f"the first are {'; '.join(shown)}"
        )


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: None, NaN, blank text, or what pandas writes for these."""
    if isinstance(value, str):
        return value.strip() in _MISSING
    return value is None or value != value


def parts_of(value: Any) -> Any:
    """Return the list of a cell, also where it is written in text; any other value as it is.

    Of ``{"value": ..., "aliases": [...]}`` and ``{"text": [...]}``, as in TriviaQA and SQuAD, the
    list is the answers. A text in brackets is a list only if all of its parts are texts: ``[1, 2]``
    may be an answer.
    """
    if isinstance(value, str):
        read = _written(value.strip())
        found = parts_of(read) if isinstance(read, dict) else read
        texts = isinstance(found, list) and all(isinstance(part, str) for part in found)
        return found if texts else value
    if not isinstance(value, Mapping):
        return value
    first = value.get("value", value.get("text"))
    more = value.get("aliases") or []
    if first is None or not isinstance(more, list):
        return value
    return [*(first if isinstance(first, list) else [first]), *more]


def _written(text: str) -> Any:
    """The list or object that a text writes in JSON or Python, or None."""
    if text[:1] + text[-1:] not in ("[]", "{}") or len(text) > 100_000:
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            return read(_NO_COMMA.sub(", ", _ARRAY.sub(r"\1", text)) if "'" in text else text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
    return None


@dataclass(frozen=True)
class Row:
    """One row; ``where`` is its place for messages, ``number`` counts the rows from 1."""

    where: str
    number: int
    values: Mapping[str, Any]

    def text(self, key: str) -> str:
        """Return a text or number as text, or raise BrokenRow, as the other methods do."""
        value = self.values.get(key)
        text = None if is_missing(value) else _as_text(value)
        if not text:
            raise BrokenRow(self.where, f"has no text in {key!r}")
        return self._whole(text, key)

    def optional_text(self, key: str) -> str | None:
        """Return a text, or None where the column is missing or empty."""
        return self.text(key) if self.has(key) else None

    def has(self, key: str) -> bool:
        """Whether a column that may be missing holds something."""
        value = self.values.get(key)
        nothing = isinstance(value, str) and value.strip().casefold() in _NOTHING
        return not nothing and not is_missing(value)

    def passage(self, key: str) -> str | None:
        """Return a text, or a list of texts as one; None where the column is missing or empty."""
        value = self.values.get(key)
        if isinstance(value, list):
            return " ".join(self.texts(key)) or None
        return self.optional_text(key)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts, or a text separated by ``|``, without the empty ones."""
        if not self.has(key):
            return ()
        value = parts_of(self.values[key])
        parts = value.split("|") if isinstance(value, str) else value
        texts = [_as_text(part) for part in self._list(key, parts) if not is_missing(part)]
        if None in texts:
            raise BrokenRow(self.where, f"has neither a text nor a list in {key!r}")
        return tuple(self._whole(text, key) for text in texts if text)

    def answers(self, key: str) -> tuple[str, ...]:
        """Return the right answers: a list of texts, or a text or number alone; at least one."""
        value = parts_of(self.values.get(key))
        found = self.texts(key) if isinstance(value, list) else (self.text(key),)
        if not found:
            raise BrokenRow(self.where, f"has no text in {key!r}")
        return tuple(dict.fromkeys(found))

    def rows(self, key: str) -> list["Row"]:
        """Return the rows of a list of objects, each with the place of this one."""
        value = self.values.get(key)
        if not isinstance(value, list) or not all(isinstance(part, Mapping) for part in value):
            raise BrokenRow(self.where, f"has no list of objects in {key!r}")
        return [Row(self.where, self.number, part) for part in value]

    def truth(self, key: str) -> bool:
        """Return a column that must hold true or false, yes or no, 1 or 0."""
        value = self.values.get(key)
        truth = _TRUTHS.get(str(value).strip().casefold())
        if truth is None:
            said = shortened(str(value))
            raise BrokenRow(
                self.where,
                f"has the {key} {said}; it must be true or false",
                f"its {key} is neither true nor false",
            )
        return truth

    def _list(self, key: str, value: Any) -> Iterable[Any]:
        if isinstance(value, list):
            return value
        raise BrokenRow(self.where, f"has neither a text nor a list in {key!r}")

    def _whole(self, text: str, key: str) -> str:
        """Return a text, unless no file and no tokenizer can take it."""
        if _SURROGATE.search(text):
            raise BrokenRow(
                self.where,
                f"has half a character in {key!r} (a lone UTF-16 surrogate, such as \\ud800); "
                "write it as valid Unicode",
                f"it has half a character in {key!r}",
            )
        return text


def _as_text(value: Any) -> str | None:
    """A text, number or date as text; None for anything else."""
    if isinstance(value, float):
        if value - value != 0:  # infinite or NaN
            return None
        # pandas makes 8.0 of the integer 8 where another row of the column is empty.
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else str(value)
    number = isinstance(value, int) and not isinstance(value, bool)
    if number or isinstance(value, Decimal | date):
        return str(value)
    return value.strip() if isinstance(value, str) else None


def numbered(rows: Iterator[tuple[str, Any]]) -> Iterator[Row]:
    """Yield rows of their places and values; raise DataError where one has no columns."""
    for number, (where, values) in enumerate(rows, start=1):
        if not isinstance(values, Mapping):
            raise DataError(f"{where} is not an object with columns by name.")
        yield Row(where, number, values)
