"""Questions and yes/no examples, their splits by subject, and the embedded facts."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from nasalign.errors import DataError, shortened
from nasalign.io.digests import sha256

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
        id: what the data calls it, or an empty text.
        options: the answers to choose from, the right one among them, or none.
        brief: the part of the context that suffices, where the data marks one.
        fields: further columns of the row that a prompt template names, as text.
        where: its place in the data, for messages.
    """

    question: str
    answer: str
    context: str | None = None
    aliases: tuple[str, ...] = ()
    wrong_answer: str | None = None
    kind: str = ""
    subject: str = ""
    id: str = ""
    options: tuple[str, ...] = ()
    brief: str | None = None
    fields: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    where: str = field(default="", compare=False, repr=False)

    @property
    def right_answers(self) -> tuple[str, ...]:
        """The answer and its aliases."""
        return (self.answer, *self.aliases)

    @property
    def about(self) -> str:
        """Its subject (or the question itself, without one) in a form that can be compared."""
        return _comparable(self.subject or self.question)


@dataclass(frozen=True)
class BinaryExample:
    """A yes/no question (``answer`` is None), or the verification of an answer by Prompt I.

    Attributes:
        question: the question.
        label: True where the right verdict is the positive word; None where it is not known. Such
            an example can be asked and scored, but is neither right nor wrong.
        answer: the answer to verify, or None where the question itself asks for yes or no.
        context: a text that stands before the question, or None.
        id: what the data calls it, or an empty text.
        negated: whether the question is if the answer is not ``answer``; ``label`` answers that.
        subject: what it is about, if the data says so.
        fields: further columns of the row that a prompt template names, as text.
        where: its place in the data, for messages.
    """

    question: str
    label: bool | None
    answer: str | None = None
    context: str | None = None
    id: str = ""
    negated: bool = False
    subject: str = field(default="", repr=False)
    fields: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    where: str = field(default="", compare=False, repr=False)

    @property
    def about(self) -> str:
        """Its subject (or the question itself, without one) in a form that can be compared."""
        return _comparable(self.subject or self.question)

    @property
    def asked(self) -> str:
        """The question with the answer that is to be verified, if any."""
        if self.answer is None:
            return self.question
        return f"{self.question} Is the answer {self.answer}?"

    @property
    def shown(self) -> str:
        """All that a prompt shows of it, but for the answer to verify."""
        parts = [self.question, self.context or "", *(text for _, text in self.fields)]
        return "\n".join(parts)

    @property
    def known_label(self) -> bool:
        """The label, for metrics and tuning; DataError if it is None."""
        if self.label is None:
            raise DataError(
                f"The example {shortened(self.question)} has no label, which metrics, tuning and "
                "shots need."
            )
        return self.label


Record = Question | BinaryExample


def place_name(record: Record) -> str:
    """Return what a record is called in messages: its place in the data, its id or its question."""
    return record.where or record.id or repr(record.question)


def _comparable(subject: str) -> str:
    return subject.casefold().strip()


def lettered(options: Sequence[str]) -> list[str]:
    """Return options as a prompt shows them: ``(A) first``, ``(B) second``, ... (Table 14)."""
    return [f"({chr(ord('A') + place)}) {option}" for place, option in enumerate(options)]


def split_of(subject: str) -> Split:
    """Return the split of a subject: by its hash, so that other rows never change it."""
    place = place_of(subject.casefold().strip())
    for split, share in SPLIT_SHARES.items():
        if place < share:
            return split
        place -= share
    return "test"


def place_of(text: str) -> float:
    """Return a pseudo-random number in [0, 1) that depends on the text alone."""
    return int(sha256([text])[:16], 16) / 2**64


@dataclass(frozen=True)
class Relation:
    """How a relation of the embedded facts is worded."""

    question: str  # the short-answer question, with {subject}
    direct: str  # the same as a yes/no question, with {subject} and {object}
    statement: str  # the fact as a sentence, with both


@cache
def load_relations() -> dict[str, Relation]:
    """Return the relations of the embedded facts by name."""
    return {
        row["relation"]: Relation(row["question"], row["direct"], row["statement"])
        for row in package_table("relations.csv")
    }


def load_facts(split: Split | None = None) -> list[Question]:
    """Return the embedded facts as questions.

    Args:
        split: ``"probing"``, ``"development"`` or ``"test"``, by subject; all facts if None.
    """
    relations = load_relations()
    facts = [
        Question(
            question=relations[row["relation"]].question.format(subject=row["subject"]),
            answer=row["object"],
            aliases=tuple(filter(None, row["aliases"].split("|"))),
            kind=row["relation"],
            subject=row["subject"],
        )
        for row in package_table("facts.csv")
    ]
    return [fact for fact in facts if split is None or split_of(fact.subject) == split]


def package_table(name: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file of this package."""
    with (Path(__file__).parent / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
