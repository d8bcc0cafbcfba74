"""Short-answer questions as binary decisions (Section 3.1.1): right and wrong answers to verify."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from nasalign.config import Balance
from nasalign.data.conversation import Chat
from nasalign.data.generator import convert_questions, write_wrong_answers
from nasalign.data.reading import Drop, Dropped
from nasalign.data.records import BinaryExample, Question, Record
from nasalign.data.wrong_answers import WrongAnswers
from nasalign.progress import Progress


@dataclass(frozen=True)
class Binary:
    """Yes/no examples, and the questions that gave none.

    Attributes:
        examples: the examples, in the order of their questions.
        origins: index of the record that each example is from.
        dropped: questions without a wrong answer, by reason.
    """

    examples: list[BinaryExample] = field(default_factory=list)
    origins: list[int] = field(default_factory=list)
    dropped: Dropped = field(default_factory=Dropped)


def positive_example(question: Question) -> BinaryExample:
    """Returns the verification of the right answer; its label is Yes."""
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
    """Turns questions into verifications of an answer; yes/no examples stay as they are.

    Args:
        records: questions and yes/no examples.
        seed: decides the wrong answers, and who gets one.
        pool: questions whose answers may serve as wrong ones; ``records`` itself unless given.
        sides: ``"both"`` gives a positive and a negative example a question, ``"one"`` gives one
            of them, to half of the questions a positive one.
        generator: a model that writes wrong answers, and rewrites questions with options as
            yes/no questions (Table 13); without it both are done by rules.
        progress: told of questions that the generator has dealt with.
    """
    questions = [record for record in records if isinstance(record, Question)]
    wanted = _wanted(len(questions), sides, seed)
    made: list[list[BinaryExample] | Drop]
    if generator is None:
        wrong = WrongAnswers(questions if pool is None else pool)
        rng = random.Random(seed)
        made = [
            _by_rules(question, labels, wrong, rng)
            for question, labels in zip(questions, wanted, strict=True)
        ]
    else:
        made = _by_generator(questions, wanted, generator, random.Random(seed), progress)
    parts, binary = iter(made), Binary()
    for index, record in enumerate(records):
        part = [record] if isinstance(record, BinaryExample) else next(parts)
        if isinstance(part, Drop):
            binary.dropped.add(str(part), record.id or repr(record.question))
            continue
        binary.examples.extend(part)
        binary.origins.extend([index] * len(part))
    return binary


def sample(records: Sequence, size: int, seed: int) -> list:
    """Returns at most ``size`` records, drawn by the seed, in their old order."""
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
    positive = set(order[: -(-count // 2)])
    return [(index in positive,) for index in range(count)]


def _by_rules(
    question: Question, labels: tuple[bool, ...], wrong: WrongAnswers, rng: random.Random
) -> list[BinaryExample] | Drop:
    try:
        answers = [question.answer if label else wrong.draw(question, rng) for label in labels]
    except Drop as reason:
        return reason
    return _named(
        question,
        [_verification(question, *pair) for pair in zip(answers, labels, strict=True)],
    )


def _by_generator(
    questions: Sequence[Question],
    wanted: Sequence[tuple[bool, ...]],
    generator: Chat,
    rng: random.Random,
    progress: Progress | None,
) -> list[list[BinaryExample] | Drop]:
    """Has a model write what the rules would: a wrong answer, or with options a question."""
    answers: dict[tuple[int, bool], str | Drop] = {}
    to_write = []
    options = WrongAnswers([])
    for index, (question, labels) in enumerate(zip(questions, wanted, strict=True)):
        for label in labels:
            if label:
                answers[index, label] = question.answer
            elif question.options or question.wrong_answer is not None:
                try:
                    answers[index, label] = options.draw(question, rng)
                except Drop as reason:
                    answers[index, label] = reason
            else:
                to_write.append(index)
    written = write_wrong_answers([questions[index] for index in to_write], generator, progress)
    answers |= {(index, False): answer for index, answer in zip(to_write, written, strict=True)}

    to_convert = [
        (index, label, answer)
        for (index, label), answer in answers.items()
        if questions[index].options and isinstance(answer, str)
    ]
    converted = convert_questions(
        [questions[index] for index, _, _ in to_convert],
        [answer for _, _, answer in to_convert],
        generator,
        progress,
    )
    asked = {
        (index, label): text for (index, label, _), text in zip(to_convert, converted, strict=True)
    }
    return [
        _written(question, labels, index, answers, asked)
        for index, (question, labels) in enumerate(zip(questions, wanted, strict=True))
    ]


def _written(
    question: Question,
    labels: tuple[bool, ...],
    index: int,
    answers: dict[tuple[int, bool], str | Drop],
    asked: dict[tuple[int, bool], str | Drop],
) -> list[BinaryExample] | Drop:
    """The examples of one question from what a model has written, or the first reason why not."""
    examples = []
    for label in labels:
        text = asked.get((index, label), answers[index, label])
        if isinstance(text, Drop):
            return text
        if (index, label) in asked:
            examples.append(BinaryExample(text, label, None, question.context))
        else:
            examples.append(_verification(question, text, label))
    return _named(question, examples)


def _verification(question: Question, answer: str, label: bool) -> BinaryExample:
    return BinaryExample(question.question, label, answer, question.context)


def _named(question: Question, examples: list[BinaryExample]) -> list[BinaryExample]:
    """Gives examples the id of their question, with yes or no behind it where there are two."""
    if not question.id:
        return examples
    if len(examples) == 1:
        return [replace(examples[0], id=question.id)]
    return [
        replace(example, id=f"{question.id}-{'yes' if example.label else 'no'}")
        for example in examples
    ]
