"""Questions and yes/no examples, and their loaders: the embedded facts, a user's file."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nasalign.errors import DataError

Split = Literal["probing", "development", "test"]
SPLIT_SHARES: dict[Split, float] = {"probing": 0.5, "development": 0.2, "test": 0.3}


@dataclass(frozen=True)
class Question:
    """A short-answer question.

    Attributes:
        question: the question itself, with its question mark.
        answer: the label.
        context: a text that stands before the question, or None.
        aliases: other right answers.
        wrong_answer: a wrong answer that the data brings along, or None.
        kind: wrong answers are drawn from questions of the same kind (a relation of the facts).
        subject: what it is about; splits never share a subject.
    """

    question: str
    answer: str
    context: str | None = None
    aliases: tuple[str, ...] = ()
    wrong_answer: str | None = None
    kind: str = ""
    subject: str = ""


@dataclass(frozen=True)
class BinaryExample:
    """A yes/no question (``answer`` is None), or the verification of an answer by Prompt I.

    Attributes:
        question: the question.
        label: True where the right verdict is the positive word.
        answer: the answer to verify, or None where the question itself asks for yes or no.
        context: a text that stands before the question, or None.
    """

    question: str
    label: bool
    answer: str | None = None
    context: str | None = None


def split_of(subject: str) -> Split:
    """Returns the split of a subject: by its hash, so that it never depends on the other rows."""
    digest = hashlib.sha256(subject.casefold().strip().encode()).digest()
    place = int.from_bytes(digest[:8]) / 2**64
    for split, share in SPLIT_SHARES.items():
        if place < share:
            return split
        place -= share
    return "test"


def load_facts(split: Split | None = None) -> list[Question]:
    """Returns the embedded facts, all of them or those of one split by subject."""
    folder = Path(__file__).parent
    with (folder / "relations.csv").open(encoding="utf-8", newline="") as file:
        templates = {row["relation"]: row["question"] for row in csv.DictReader(file)}
    with (folder / "facts.csv").open(encoding="utf-8", newline="") as file:
        facts = [
            Question(
                question=templates[row["relation"]].format(subject=row["subject"]),
                answer=row["object"],
                aliases=_aliases(row["aliases"].split("|")),
                kind=row["relation"],
                subject=row["subject"],
            )
            for row in csv.DictReader(file)
        ]
    return [fact for fact in facts if split is None or split_of(fact.subject) == split]


def load_file(path: Path) -> list[Question | BinaryExample]:
    """Reads a JSONL, JSON (an array) or CSV file with the columns ``question`` and ``answer``.

    Optional columns: ``context``, ``label``, ``wrong_answer``, ``aliases``, ``subject``. A row
    with a ``label``, or whose answer is true, false, yes or no, is a yes/no example; any other is
    a short-answer question.

    Raises:
        DataError: the file cannot be read, is empty, or a row is broken (its line is named).
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"Cannot read the data file {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error.reason} at {error.start}.") from error
    records = [_record(where, row) for where, row in _rows(path, text)]
    if not records:
        raise DataError(f"{path} holds no rows.")
    return records


def _rows(path: Path, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields each row with where it stands, for messages."""
    suffix = path.suffix.lower()
    if suffix == ".csv":
        yield from _csv_rows(path, text)
    elif suffix == ".json":
        yield from _json_rows(path, text)
    elif suffix == ".jsonl":
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                where = f"{path}, line {number}"
                yield where, _parse_json(where, line)
    else:
        raise DataError(f"{path} is neither .jsonl nor .json nor .csv.")


def _csv_rows(path: Path, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a context may be long
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row:
                raise DataError(f"{where} has more fields than the header; quote what has a comma.")
            yield where, row
    except csv.Error as error:
        raise DataError(f"{path}, after line {reader.line_num}, is not CSV: {error}.") from error


def _json_rows(path: Path, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    rows = _parse_json(str(path), text)
    if not isinstance(rows, list):
        raise DataError(f"{path} must hold a JSON array of rows.")
    yield from ((f"{path}, row {number}", row) for number, row in enumerate(rows, start=1))


def _parse_json(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        place = f"{line}column {error.colno}"
        raise DataError(f"{where} is not valid JSON: {error.msg} at {place}.") from error


def _record(where: str, row: Mapping[str, Any]) -> Question | BinaryExample:
    if not isinstance(row, Mapping):
        raise DataError(f"{where} is not an object with the key question.")
    question = _text(where, row, "question")
    context = _optional_text(where, row, "context")
    if row.get("label") not in (None, ""):
        answer = _optional_text(where, row, "answer")
        return BinaryExample(question, _truth(where, row["label"]), answer, context)
    if _is_truth(row.get("answer")):
        return BinaryExample(question, _truth(where, row["answer"]), None, context)
    return Question(
        question=question,
        answer=_text(where, row, "answer"),
        context=context,
        aliases=_row_aliases(where, row.get("aliases")),
        wrong_answer=_optional_text(where, row, "wrong_answer"),
        subject=_optional_text(where, row, "subject") or question,
    )


def _text(where: str, row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where} has no text in {key!r}.")
    return value.strip()


def _optional_text(where: str, row: Mapping[str, Any], key: str) -> str | None:
    return _text(where, row, key) if row.get(key) not in (None, "") else None


_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _is_truth(value: object) -> bool:
    return isinstance(value, bool) or str(value).strip().casefold() in (
        "true",
        "false",
        "yes",
        "no",
    )


def _truth(where: str, value: object) -> bool:
    truth = _TRUTHS.get(str(value).strip().casefold())
    if truth is None:
        raise DataError(f"{where} has the label {value!r}; it takes true or false.")
    return truth


def _row_aliases(where: str, value: object) -> tuple[str, ...]:
    if value in (None, ""):
        return ()
    parts = value.split("|") if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(
        isinstance(part, str | int | float) for part in parts
    ):
        raise DataError(f"{where} has neither a text nor a list in 'aliases'.")
    return _aliases(parts)


def _aliases(parts: Iterable[object]) -> tuple[str, ...]:
    return tuple(str(part).strip() for part in parts if str(part).strip())
