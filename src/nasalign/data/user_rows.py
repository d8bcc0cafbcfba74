"""Records from the rows of a user's file."""

from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from nasalign.data.columns import Columns, columns_found
from nasalign.data.file_format import FileFormat
from nasalign.data.file_verdicts import FileVerdicts
from nasalign.data.reading import BrokenRow, Drop, Dropped, Row
from nasalign.data.records import BinaryExample, Question, Record
from nasalign.errors import DataError, shortened

_OF_TEMPLATE = ("question", "answer", "context")
"""What a template names and records hold in a field of its own."""


@dataclass
class FileReader:
    """Makes records of the rows of a file."""

    columns: Columns
    how: FileFormat
    dropped: Dropped
    unused: Counter[str] = field(default_factory=Counter)  # columns of no use in yes/no rows

    def __post_init__(self) -> None:
        self.verdicts = FileVerdicts(self.columns, self.how)

    def read(self, rows: deque[Row]) -> list[Record]:
        """Return the records of all rows, which are taken out of ``rows`` to save memory.

        Raises:
            DataError: the verdicts are not clear, no row can be used, or a row does not fit and
                the format is strict.
        """
        self._template_columns()
        self.verdicts.decide(rows)
        records: list[Record] = []
        places: dict[str, str] = {}
        while rows:
            row = rows.popleft()
            try:
                record = self._record(row)
                if record.id and record.id in places:
                    raise BrokenRow(
                        row.where,
                        f"has the id {record.id!r}, as {places[record.id]} has",
                        "its id is there already; --columns id= reads no ids",
                    )
            except BrokenRow as error:
                if self.how.strict:
                    raise DataError(f"{error} {self._found()}") from error
                self.dropped.add(error.reason, row.where, str(error))
            except Drop as reason:
                self.dropped.add(str(reason), row.where)
            else:
                if isinstance(record, BinaryExample):
                    self.verdicts.take(row)
                places[record.id] = row.where
                records.append(record)
        if not records:
            said = " ".join(self.dropped.sentences())
            raise DataError(f"{self.columns.path} has no usable row. {said} {self._found()}")
        return records

    def _template_columns(self) -> None:
        for name in self.how.placeholders:
            if self.columns.column(name) is None:
                raise DataError(
                    f"{self.columns.path} has no column {name!r}, which the prompt template names; "
                    f"its columns are {columns_found(self.columns)}."
                )

    def _record(self, row: Row) -> Record:
        read, verdict = self.columns.read, self.verdicts.of(row)
        context, fields = self._context(row), self._fields(row)
        common: dict[str, Any] = {
            "question": self._question(row, context, fields),
            "context": context,
            "id": row.optional_text(read.get("id", "")) or "",
            "fields": fields,
            "where": row.where,
        }
        subject = self._subject(row)
        if verdict is not None:
            return BinaryExample(
                label=verdict, answer=self._asked_about(row), subject=subject, **common
            )
        if self.how.placeholders and "answer" not in self.how.placeholders:
            raise BrokenRow(row.where, "has no label, and the template does not name {answer}")
        answer, *more = row.answers(read.get("answer", "answer"))
        options = row.texts(read.get("options", ""))
        aliases = dict.fromkeys([*more, *row.texts(read.get("aliases", ""))])
        return Question(
            answer=chosen_option(row, options, answer) if options else answer,
            aliases=tuple(aliases),
            wrong_answer=row.optional_text(read.get("wrong_answer", "")),
            subject=subject or common["question"],
            options=options,
            **common,
        )

    def _question(self, row: Row, context: str | None, fields: tuple[tuple[str, str], ...]) -> str:
        """The question, or what a template asks about where it does not name one."""
        column, named = self.columns.read.get("question"), self.how.placeholders
        if not named or "question" in named or (column and row.has(column)):
            return row.text(column or "question")
        return " ".join(text for _, text in fields) or context or row.text("question")

    def _context(self, row: Row) -> str | None:
        column = self.columns.read.get("context", "")
        context = row.passage(column)
        if context is None and "context" in self.how.placeholders:
            raise BrokenRow(row.where, f"has no text in {column!r}")
        return context

    def _fields(self, row: Row) -> tuple[tuple[str, str], ...]:
        """The further columns that a template names, as text."""
        found = []
        for name in self.how.placeholders:
            column = self.columns.column(name) or name
            if name not in _OF_TEMPLATE:
                found.append((name, row.passage(column) or row.text(column)))
        return tuple(found)

    def _subject(self, row: Row) -> str:
        column = self.columns.read.get("subject", "")
        return row.text(column) if self.how.group_by and column else row.optional_text(column) or ""

    def _asked_about(self, row: Row) -> str | None:
        """The answer that a labelled row asks about, or None."""
        read = self.columns.read
        for name in ("aliases", "wrong_answer", "options"):
            self.unused[read.get(name, "")] += row.has(read.get(name, ""))
        column = read.get("answer", "")
        labelled = "label" in read and row.has(read["label"])
        if self.how.placeholders and "answer" not in self.how.placeholders:
            self.unused[column] += labelled and row.has(column)
            return None
        if labelled and row.has(column):
            return row.answers(column)[0]
        if "answer" in self.how.placeholders:
            raise BrokenRow(row.where, "has no answer for the {answer} of the template")
        return None

    def _found(self) -> str:
        return f"The columns found: {columns_found(self.columns)}."

    def notes(self) -> list[str]:
        """Return what is to be said of columns and verdicts, one sentence each."""
        notes = self.columns.sentences() + self.verdicts.sentences()
        unused = {name: count for name, count in self.unused.items() if count}
        if unused:
            said = ", ".join(f"{name} ({count})" for name, count in unused.items())
            notes.append(f"Of no use in rows with a verdict: {said}.")
        return notes

    def facts(self) -> dict[str, Any]:
        """Return the same for ``run.json``."""
        unread = dict(islice(self.columns.unread().items(), 100))
        return {"columns": self.columns.read, "unread": unread, "verdicts": self.verdicts.counts()}


def chosen_option(row: Row, options: tuple[str, ...], answer: str) -> str:
    """Return the option that an answer names, by its text or by its letter, or raise BrokenRow."""
    if answer in options:
        return answer
    place = ord(answer.upper()) - ord("A") if len(answer) == 1 and answer.isascii() else -1
    if not 0 <= place < len(options):
        raise BrokenRow(
            row.where,
            f"has the answer {shortened(answer)}, which is none of its options",
            "its answer is none of its options",
        )
    return options[place]
