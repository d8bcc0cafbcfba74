"""Which rows of a user's file hold a verdict, by its labels and answers together."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from nasalign.data.columns import Columns
from nasalign.data.file_format import FileFormat
from nasalign.data.label_values import LabelValues, counted, is_verdict_word
from nasalign.data.question_form import form_of
from nasalign.data.reading import BrokenRow, Drop, Row, is_missing
from nasalign.data.verdict_rules import decide_answers, decide_labels
from nasalign.errors import DataError, shortened


@dataclass
class FileVerdicts:
    """The verdicts of a file.

    Attributes:
        columns: which of its columns is which.
        how: how it is to be read.
        labels: what the cells of the column ``label`` mean; None where no row has one.
        answers: what the answers of the rows without a label mean.
        used: rows by column and cell whose verdict was taken.
        mostly_labelled: whether at least half of the rows have a label, so that the others lack it.
        labels_fit: whether some cell is one that ``--labels`` names.
    """

    columns: Columns
    how: FileFormat
    labels: LabelValues | None = None
    answers: LabelValues | None = None
    used: dict[str, Counter[str]] = field(default_factory=dict)
    mostly_labelled: bool = False
    labels_fit: bool = False

    def decide(self, rows: Collection[Row]) -> None:
        """Decide which labels and answers are verdicts, by all rows.

        Raises:
            DataError: it is not clear, or labels and answers are the same.
        """
        label, answer = (self.columns.read.get(name) for name in ("label", "answer"))
        rest = list(rows)
        if label:
            labelled = [row for row in rows if row.has(label)]
            rest = [row for row in rows if not row.has(label)]
            if labelled:
                self.labels = self._values(label, labelled)
                decide_labels(self.labels)
                if answer:
                    self._refuse_two_verdicts(labelled, answer)
            self.mostly_labelled = 2 * len(labelled) >= len(rows)
        if answer and not self.mostly_labelled:
            rest = [row for row in rest if self._answers(row) and not self._chooses(row)]
            self.answers = self._values(answer, rest)
            decide_answers(self.answers, list(map(self._asked, rest)))
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

    def _refuse_two_verdicts(self, rows: list[Row], answer: str) -> None:
        """Refuse labels that repeat the answers; "Is the answer No?" is not meant."""
        assert self.labels
        answers = counted([row.values.get(answer) for row in rows], LabelValues("", answer))
        answers.signs = answers.known
        pairs = {
            (answers.sign(row.values.get(answer)), self.labels.sign(row.values[self.labels.column]))
            for row in rows
        }
        if ("no", "no") in pairs and pairs <= {("yes", "yes"), ("no", "no")}:
            raise DataError(
                f"{self.columns.path}: its columns {answer} and {self.labels.column} hold the same "
                "verdicts; give --columns answer= to read the label alone."
            )

    def _asked(self, row: Row) -> str:
        question = row.values.get(self.columns.read.get("question", ""))
        return question if isinstance(question, str) else ""

    def _answers(self, row: Row) -> bool:
        """Whether a row holds something in its column of answers, which may be "None"."""
        return not is_missing(row.values.get(self.columns.read.get("answer", "")))

    def _chooses(self, row: Row) -> bool:
        """Whether a row has options to choose from, other than Yes and No."""
        column = self.columns.read.get("options")
        try:
            options = row.texts(column) if column else ()
        except BrokenRow:
            return True  # told later
        return not all(map(is_verdict_word, options))

    def of(self, row: Row) -> bool | None:
        """Return the verdict of a row, or None where its answer is a short answer.

        Raises:
            BrokenRow: its label or its answer is neither.
            Drop: it is a value that ``--labels`` says to be neither.
        """
        if self.labels and row.has(self.labels.column):
            return self._sign(row, self.labels, "label") == "yes"
        if self.mostly_labelled:
            raise BrokenRow(row.where, "has no label, as most rows of the file have")
        if not self._answers(row) or not self.answers or self._chooses(row):
            return None
        cell, values = row.values[self.answers.column], self.answers
        if isinstance(cell, bool):
            return cell
        sign = values.sign(cell)
        if values.mixed:
            form = form_of(self._asked(row))
            verdicts = {"yes", "no"} & set(values.signs.values())
            if form == "open" or not verdicts or (sign is None and form != "closed"):
                return None
            if form == "unknown" and sign in ("yes", "no"):
                raise BrokenRow(
                    row.where,
                    f"has the answer {shortened(values.shown(cell))}, which may be a verdict or a "
                    "short answer; give it a label",
                    "its answer may be a verdict or a short answer; a label would tell",
                )
        return self._sign(row, values, "answer") == "yes"

    def _sign(self, row: Row, values: LabelValues, kind: str) -> str:
        """Yes or No of a cell; raises where it is neither."""
        cell = row.values[values.column]
        sign = values.sign(cell)
        if sign in ("yes", "no"):
            return str(sign)
        if values.is_given(cell):
            raise Drop(f"its {kind} is neither Yes nor No, as --labels says")
        raise BrokenRow(
            row.where,
            f"has the {kind} {shortened(values.shown(cell))}, which is neither Yes nor No",
            f"its {kind} is neither Yes nor No",
        )

    def take(self, row: Row) -> None:
        """Count a row whose verdict has been read."""
        labelled = self.labels and row.has(self.labels.column)
        values = self.labels if labelled else self.answers
        assert values
        cell = values.plain(row.values[values.column])
        self.used.setdefault(values.column, Counter())[cell] += 1

    def sentences(self) -> list[str]:
        """Return what was recognised, a sentence for each column."""
        return [values.sentence(used) for values, used in self._taken()]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the rows of each verdict by column."""
        return {values.column: values.counts(used) for values, used in self._taken()}

    def _taken(self) -> list[tuple[LabelValues, Counter[str]]]:
        both = [values for values in (self.labels, self.answers) if values]
        return [(one, self.used[one.column]) for one in both if one.column in self.used]
