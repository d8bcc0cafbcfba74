"""A user's own questions: JSONL, JSON or CSV with the columns ``question`` and ``answer``."""

from pathlib import Path

from nasalign.data.reading import Row, read_data_rows
from nasalign.data.records import BinaryExample, Question, Record
from nasalign.errors import DataError, shortened


def load_file(path: str | Path) -> list[Record]:
    """Read a JSONL, JSON (an array) or CSV file with the columns ``question`` and ``answer``.

    Optional columns: ``id``, ``context``, ``label``, ``wrong_answer``, ``aliases``, ``options``,
    ``subject``. A row with a ``label``, or whose answer is true, false, yes or no, is a yes/no
    example; any other is a short-answer question. Raise DataError if the file cannot be read, is
    empty, or a row is broken (its line is named).
    """
    records: list[Record] = []
    places: dict[str, str] = {}
    for row in read_data_rows(path):
        record = _record(row)
        if record.id and record.id in places:
            raise DataError(f"{row.where} has the id {record.id!r}, as {places[record.id]} has.")
        places[record.id] = row.where
        records.append(record)
    if not records:
        raise DataError(f"{path} holds no rows.")
    return records


def _record(row: Row) -> Record:
    question, context = row.text("question"), row.optional_text("context")
    name = row.optional_text("id") or ""
    if row.values.get("label") not in (None, ""):
        answer = row.optional_text("answer")
        return BinaryExample(question, row.truth("label"), answer, context, name)
    answer = row.values.get("answer")
    # "1" and "0" are true and false in the column label; as an answer they are numbers.
    if isinstance(answer, bool) or str(answer).strip().casefold() in ("true", "false", "yes", "no"):
        return BinaryExample(question, row.truth("answer"), None, context, name)
    options = row.texts("options")
    return Question(
        question=question,
        answer=chosen_option(row, options, row.text("answer")) if options else row.text("answer"),
        context=context,
        aliases=row.texts("aliases"),
        wrong_answer=row.optional_text("wrong_answer"),
        subject=row.optional_text("subject") or question,
        id=name,
        options=options,
    )


def chosen_option(row: Row, options: tuple[str, ...], answer: str) -> str:
    """Return the option that an answer names, by its text or by its letter, or raise DataError."""
    if answer in options:
        return answer
    place = ord(answer.upper()) - ord("A") if len(answer) == 1 and answer.isascii() else -1
    if not 0 <= place < len(options):
        raise DataError(
            f"{row.where} has the answer {shortened(answer)}, which is none of its options."
        )
    return options[place]
