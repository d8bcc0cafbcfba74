"""Short-answer questions as binary decisions (Section 3.1.1): right and wrong answers to verify."""

import itertools
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from nasalign.config import Balance
from nasalign.data.conversation import Chat
from nasalign.data.generator import convert_questions, write_wrong_answers
from nasalign.data.judge import normalise
from nasalign.data.reading import Drop, Dropped
from nasalign.data.records import BinaryExample, Question, Record, place_name
from nasalign.data.wrong_answers import WrongAnswers
from nasalign.progress import Progress

Task = Literal["yes/no questions", "answers to verify", "options to verify", "rewritten questions"]
"""What a data set asks: its own yes/no questions; is the answer ...; is the answer an option, with
its context; or a question with options that a generator has rewritten as a yes/no question, which
contains the context (Table 14)."""
Make = Callable[[int, bool], BinaryExample]
"""Makes the example of a question (by its index) and a label, or raises ``Drop``."""


@dataclass(frozen=True)
class Binary:
    """Yes/no examples in the order of their questions, and the questions that gave none."""

    examples: list[BinaryExample] = field(default_factory=list)
    origins: list[int] = field(default_factory=list)  # index of the record of each example
    dropped: Dropped = field(default_factory=Dropped)
    tasks: tuple[Task, ...] = ()  # of all records; more than one in a mixture

    def without(self, records: Collection[int]) -> "Binary":
        """Return it without the examples of some records, by their index."""
        kept = [place for place, origin in enumerate(self.origins) if origin not in records]
        return replace(
            self,
            examples=[self.examples[place] for place in kept],
            origins=[self.origins[place] for place in kept],
        )


def positive_example(question: Question) -> BinaryExample:
    """Return the verification of the right answer; its label is Yes."""
    return _verification(question, question.answer, True)


def to_binary(
    records: Sequence[Record],
    seed: int,
    pool: Sequence[Question] | None = None,
    *,
    sides: Balance = "both",
    generator: Chat | None = None,
    progress: Progress | None = None,
) -> Binary:
    """Turn questions into verifications of an answer; yes/no examples stay as they are.

    Args:
        records: in any mixture.
        seed: of the wrong answers, and of which questions get one.
        pool: questions whose answers may serve as wrong ones; those of ``records`` unless given.
        sides: ``"both"`` gives a positive and a negative example a question, ``"one"`` gives one
            of them, to half of the questions a positive one.
        generator: a model that writes wrong answers, and rewrites questions with options as
            yes/no questions (Table 13); without it wrong answers are made by rules, and options
            are verified like answers.
        progress: told of questions that the generator has dealt with.
    """
    questions = [record for record in records if isinstance(record, Question)]
    rng, wrong = random.Random(seed), WrongAnswers(questions if pool is None else pool)
    by_rules = generator is None and sides == "one"
    left_out = _without_wrong_answer(questions, wrong) if by_rules else {}
    asked = [index for index in range(len(questions)) if index not in left_out]
    wanted = dict(zip(asked, _wanted(len(asked), sides, seed), strict=True))
    if generator is None:
        make = _by_rules(questions, wrong, rng)
    else:
        make = _by_generator(questions, list(wanted.values()), generator, rng, progress)
    tasks = dict.fromkeys(_task(record, generator) for record in records)
    numbers, binary = itertools.count(), Binary(tasks=tuple(tasks))
    for index, record in enumerate(records):
        part = [record] if isinstance(record, BinaryExample) else []
        if isinstance(record, Question):
            number = next(numbers)
            both = wanted.get(number, ())
            try:
                if number in left_out:
                    raise left_out[number]
                part = [replace(make(number, one), id=_name(record, one, both)) for one in both]
            except Drop as reason:
                binary.dropped.add(str(reason), place_name(record))
        binary.examples.extend(part)
        binary.origins.extend([index] * len(part))
    return binary


def _task(record: Record, generator: Chat | None) -> Task:
    if record.answer is None:
        return "yes/no questions"
    if isinstance(record, BinaryExample) or not record.options:
        return "answers to verify"
    return "options to verify" if generator is None else "rewritten questions"


def sample(records: Sequence, size: int, seed: int) -> list:
    """Return at most ``size`` records, drawn by the seed, in their old order."""
    if len(records) <= size:
        return list(records)
    chosen = sorted(random.Random(seed).sample(range(len(records)), size))
    return [records[index] for index in chosen]


def _wanted(count: int, sides: Balance, seed: int) -> list[tuple[bool, ...]]:
    """The labels that each question is to give."""
    if sides == "both":
        return [(True, False)] * count
    order = list(range(count))
    random.Random(f"{seed}/sides").shuffle(order)
    positive = set(order[: -(-count // 2)])  # of an odd count, one more is positive
    return [(index in positive,) for index in range(count)]


def _without_wrong_answer(questions: Sequence[Question], wrong: WrongAnswers) -> dict[int, Drop]:
    """The questions that are left out whichever side is asked, so that the sides stay balanced."""
    left_out = {}
    for index, question in enumerate(questions):
        try:
            if not question.kind:
                wrong.draw(question, random.Random(index))
        except Drop as reason:
            left_out[index] = reason
    return left_out


def _by_rules(questions: Sequence[Question], wrong: WrongAnswers, rng: random.Random) -> Make:
    def make(index: int, label: bool) -> BinaryExample:
        asked = questions[index]
        return _verification(asked, asked.answer if label else wrong.draw(asked, rng), label)

    return make


def _by_generator(
    questions: Sequence[Question],
    wanted: Sequence[tuple[bool, ...]],
    generator: Chat,
    rng: random.Random,
    progress: Progress | None,
) -> Make:
    """Ask a model, all questions at once, for wrong answers and, with options, for questions."""
    keys = [(index, label) for index, labels in enumerate(wanted) for label in labels]
    answers: dict[tuple[int, bool], str | Drop] = {}
    options = WrongAnswers([])
    for index, label in keys:
        question = questions[index]
        if label:
            answers[index, label] = question.answer
        elif question.options or question.wrong_answer is not None:
            try:
                answers[index, label] = options.draw(question, rng)
            except Drop as reason:
                answers[index, label] = reason
    to_write = [key for key in keys if key not in answers]
    written = write_wrong_answers([questions[index] for index, _ in to_write], generator, progress)
    answers |= dict(zip(to_write, written, strict=True))

    given = [(key, answers[key]) for key in keys if questions[key[0]].options]
    to_convert = {key: answer for key, answer in given if isinstance(answer, str)}
    asked = [questions[index] for index, _ in to_convert]
    texts = convert_questions(asked, list(to_convert.values()), generator, progress)
    converted = dict(zip(to_convert, texts, strict=True))

    def make(index: int, label: bool) -> BinaryExample:
        text = converted.get((index, label), answers[index, label])
        if isinstance(text, Drop):
            raise text
        if (index, label) in converted:
            rewritten = _verification(questions[index], text, label)
            asked = _with_passage(text, questions[index].context)
            return replace(rewritten, question=asked, answer=None, context=None)
        return _verification(questions[index], text, label)

    return make


def _with_passage(question: str, passage: str | None) -> str:
    """A rewritten question, behind the passage if the generator has left most of that out."""
    words = set(normalise(passage or "").split())
    left_out = words - set(normalise(question).split())
    return f"{passage} {question}" if 2 * len(left_out) > len(words) else question


def _verification(question: Question, answer: str, label: bool) -> BinaryExample:
    return BinaryExample(
        question.question,
        label,
        answer,
        question.context,
        subject=question.subject,
        fields=question.fields,
        where=question.where,
    )


def _name(question: Question, label: bool, labels: Sequence[bool]) -> str:
    """The id of a question's example: that of the question, and which one it is of two."""
    several = question.id and len(labels) > 1
    return f"{question.id}-{'yes' if label else 'no'}" if several else question.id
