"""Records from the rows of a user's file, whose verdicts are told by all rows together."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from nasalign.data.columns import Columns, columns_found
from nasalign.data.file_format import FileFormat
from nasalign.data.label_values import (
    LabelValues,
    counted,
    decide_answers,
    decide_labels,
    is_verdict_word,
)
from nasalign.data.question_form import form_of
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
    labels: LabelValues | None = None
    answers: LabelValues | None = None
    used: dict[str, Counter[str]] = field(default_factory=dict)  # verdicts by column and cell
    unused: Counter[str] = field(default_factory=Counter)  # columns of no use in yes/no rows
    mostly_labelled: bool = False
    labels_fit: bool = False  # whether some cell is one that --labels names

    def read(self, rows: list[Row]) -> list[Record]:
        """Return the records of all rows.

        Raises:
            DataError: the verdicts are not clear, no row can be used, or a row does not fit and
                the format is strict.
        """
        self._template_columns()
        self._decide(rows)
        records: list[Record] = []
        places: dict[str, str] = {}
        for row in rows:
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

    def _decide(self, rows: list[Row]) -> None:
        """Decide which labels and answers are verdicts, by all rows."""
        label, answer = (self.columns.read.get(name) for name in ("label", "answer"))
        rest = rows
        if label:
            labelled = [row for row in rows if row.has(label)]
            rest = [row for row in rows if not row.has(label)]
            if labelled:
                self.labels = self._values(label, labelled)
                decide_labels(self.labels)
            self.mostly_labelled = 2 * len(labelled) >= len(rows)
        if answer and not self.mostly_labelled:
            rest = [row for row in rest if row.has(answer) and not self._chooses(row)]
            self.answers = self._values(answer, rest)
            column = self.columns.read.get("question", "")
            decide_answers(self.answers, [str(row.values.get(column, "")) for row in rest])
        if self.how.labels and not self.labels_fit:
            self.columns.lacking.append(f"--labels {self.how.facts['labels']}")

    def _values(self, column: str, rows: list[Row]) -> LabelValues:
        """The cells of a column; ``--labels`` is for another file if none of them is one of it."""
        cells, path = [row.values[column] for row in rows], self.columns.path
        values = counted(cells, LabelValues(path, column, self.how.labels))
        if not self.how.labels or values.rows("yes", "no"):
            self.labels_fit = True
            return values
        return counted(cells, LabelValues(path, column))

    def _chooses(self, row: Row) -> bool:
        """Whether a row has options to choose from, other than Yes and No."""
        column = self.columns.read.get("options")
        try:
            options = row.texts(column) if column else ()
        except BrokenRow:
            return True  # told later
        return not all(map(is_verdict_word, options))

    def _record(self, row: Row) -> Record:
        label, read = self.columns.read.get("label"), self.columns.read
        verdict = self._label(row) if label and row.has(label) else self._verdict(row)
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

    def _label(self, row: Row) -> bool:
        """The label of a row that has one."""
        assert self.labels
        return self._sign(row, self.labels, "label") == "yes"

    def _verdict(self, row: Row) -> bool | None:
        """The verdict that the answer of a row without a label is; None of a short answer."""
        column = self.columns.read.get("answer", "answer")
        if self.mostly_labelled:
            raise BrokenRow(row.where, "has no label, as most rows of the file have")
        if not row.has(column) or not self.answers or self._chooses(row):
            return None
        cell, values = row.values[column], self.answers
        if isinstance(cell, bool):
            self._count(values, cell)
            return cell
        sign = values.sign(cell)
        if values.mixed:
            form = form_of(str(row.values.get(self.columns.read.get("question", ""), "")))
            verdicts = {"yes", "no"} & set(values.signs.values())
            if form == "open" or not verdicts or (sign is None and form != "closed"):
                return None
            if form == "unknown" and sign in ("yes", "no"):
                raise BrokenRow(
                    row.where,
                    f"has the answer {shortened(str(cell))}, which may be a verdict or a short "
                    "answer; give it a label",
                    "its answer may be a verdict or a short answer; a label would tell",
                )
        return self._sign(row, values, "answer") == "yes"

    def _sign(self, row: Row, values: LabelValues, kind: str) -> str:
        """Yes or No of a cell; raises where it is neither."""
        cell = row.values[values.column]
        sign = values.sign(cell)
        if sign in ("yes", "no"):
            self._count(values, cell)
            return str(sign)
        if values.is_given(cell):
            raise Drop(f"its {kind} is neither Yes nor No, as --labels says")
        raise BrokenRow(
            row.where,
            f"has the {kind} {shortened(str(cell))}, which is neither Yes nor No",
            f"its {kind} is neither Yes nor No",
        )

    def _count(self, values: LabelValues, cell: Any) -> None:
        self.used.setdefault(values.column, Counter())[values.plain(cell)] += 1

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
        notes = self.columns.sentences()
        for values in (self.labels, self.answers):
            if values and values.column in self.used:
                notes.append(values.sentence(self.used[values.column]))
        unused = {name: count for name, count in self.unused.items() if count}
        if unused:
            said = ", ".join(f"{name} ({count})" for name, count in unused.items())
            notes.append(f"Of no use in rows with a verdict: {said}.")
        return notes

    def facts(self) -> dict[str, Any]:
        """Return the same for ``run.json``."""
        verdicts = {
            values.column: values.counts(self.used[values.column])
            for values in (self.labels, self.answers)
            if values and values.column in self.used
        }
        unread = dict(islice(self.columns.unread().items(), 100))
        return {"columns": self.columns.read, "unread": unread, "verdicts": verdicts}


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
