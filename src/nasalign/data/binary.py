"""Short-answer questions as binary decisions: the right answer, or a wrong one, to be verified."""

import random
from collections.abc import Sequence

from nasalign.data.judge import wrong_answer
from nasalign.data.qa import BinaryExample, Question


def positive_example(question: Question) -> BinaryExample:
    """Returns the verification of the right answer (Section 3.1.1); its label is Yes."""
    return BinaryExample(question.question, True, question.answer, question.context)


def negative_example(
    question: Question, pool: Sequence[Question], rng: random.Random
) -> BinaryExample:
    """Returns the verification of a wrong answer drawn from the pool; its label is No."""
    answer = wrong_answer(question, pool, rng)
    return BinaryExample(question.question, False, answer, question.context)


def to_binary(
    records: Sequence[Question | BinaryExample], seed: int, pool: Sequence[Question] | None = None
) -> list[BinaryExample]:
    """Returns one positive and one negative example a question; yes/no examples stay as they are.

    Args:
        records: questions and yes/no examples.
        seed: decides the wrong answers.
        pool: questions whose answers may serve as wrong ones; ``records`` itself unless given.

    Raises:
        DataError: a question has no wrong answer in the pool.
    """
    rng = random.Random(seed)
    questions = [record for record in records if isinstance(record, Question)]
    examples: list[BinaryExample] = []
    for record in records:
        if isinstance(record, BinaryExample):
            examples.append(record)
        else:
            examples.append(positive_example(record))
            examples.append(negative_example(record, pool or questions, rng))
    return examples


def sample(records: Sequence, size: int, seed: int) -> list:
    """Returns at most ``size`` records, drawn by the seed, in their old order."""
    if len(records) <= size:
        return list(records)
    chosen = sorted(random.Random(seed).sample(range(len(records)), size))
    return [records[index] for index in chosen]
