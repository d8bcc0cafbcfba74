"""Is a free answer right, and what would be a wrong one: by normalised text, without a model."""

import random
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from nasalign.data.qa import Question
from nasalign.errors import DataError

_ARTICLES = re.compile(r"\b(a|an|the) (?=\w)")  # not the A of "vitamin A"
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
_APOSTROPHES = re.compile("['\u2019]")
# The point of 3.5 and the sign of -15 stay; the underscores of _Paris_ go.
_NOT_WORD = re.compile(r"(?:(?!(?<=\d)\.(?=\d)|(?<!\w)-(?=\d))[\W_])+")


@lru_cache(maxsize=65_536)
def normalise(text: str) -> str:
    """Returns a text in lower case without accents, articles, punctuation and extra spaces."""
    decomposed = unicodedata.normalize("NFKD", text)
    plain = "".join(sign for sign in decomposed if not unicodedata.combining(sign)).casefold()
    plain = _THOUSANDS.sub("", _APOSTROPHES.sub("", plain))
    return " ".join(_ARTICLES.sub(" ", _NOT_WORD.sub(" ", plain)).split())


def matches(prediction: str, question: Question) -> bool:
    """Says whether a prediction holds the answer or an alias as whole words.

    Answers of one or two characters (chemical symbols) must match in case too: "As" is arsenic,
    "as" is a word.
    """
    return any(_holds(prediction, answer) for answer in _right(question))


def wrong_answer(question: Question, pool: Sequence[Question], rng: random.Random) -> str:
    """Returns a wrong answer of the same kind: the data's own, or another question's answer.

    Args:
        question: the question to answer wrongly.
        pool: questions whose answers may be taken; only those of the same kind are.
        rng: decides which.

    Raises:
        DataError: no answer in the pool differs from the right one.
    """
    if question.wrong_answer is not None:
        if normalise(question.wrong_answer) in map(normalise, _right(question)):
            raise DataError(
                f"The wrong_answer of {question.question!r} is right: {question.wrong_answer!r}."
            )
        return question.wrong_answer
    candidates = sorted({other.answer for other in pool if other.kind == question.kind})
    wrong = [answer for answer in candidates if not _same(answer, question)]
    if not wrong:
        raise DataError(
            f"No wrong answer can be drawn for {question.question!r}: all questions of its kind "
            "have the same answer; give the column wrong_answer."
        )
    return rng.choice(wrong)


def _same(answer: str, question: Question) -> bool:
    """An answer is the right one if either holds the other: "dollar" and "US dollar"."""
    return any(_holds(answer, other) or _holds(other, answer) for other in _right(question))


def _right(question: Question) -> tuple[str, ...]:
    return (question.answer, *question.aliases)


def _holds(text: str, answer: str) -> bool:
    if len(answer) <= 2 and not answer.isdigit():
        return re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text) is not None
    wanted = normalise(answer) or answer.casefold().strip()
    return f" {wanted} " in f" {normalise(text) or text.casefold().strip()} "
