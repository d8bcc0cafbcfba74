"""Wrong answers without a model: of the same type and form as the right one, and never right.

In this order: the data's own wrong answer; another option; another answer of the same kind; the
other side of "A or B" in the question; a number nearby in the same format; another word of a closed
set (weekdays, number words, countries); another answer to a question for the same type of thing. A
question for which there is none of these is dropped.
"""

import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from nasalign.data.answer_types import AnswerType, others_of_set, type_of
from nasalign.data.choices import sides_of
from nasalign.data.formulas import is_formula, is_possible, trigonometric_values, vary_formula
from nasalign.data.judge import normalise, same_answer
from nasalign.data.numbers import is_amount, vary_number
from nasalign.data.reading import Drop
from nasalign.data.records import Question
from nasalign.data.values import same_value

_TRIES = 40
_CLOSED_SETS = [
    words.split()
    for words in (
        "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
        "January February March April May June July August September October November December",
        "two three four five six seven eight nine ten eleven twelve",
        "first second third fourth fifth sixth seventh eighth",
        "north south east west",
        "once twice",
        "even odd",
        "yes no",
        "true false",
        "A B C D E",
    )
]
_NEIGHBOURS = {word: words for words in _CLOSED_SETS for word in map(str.casefold, words)}
_WORD = re.compile(r"(?<![\\\w-])[^\W\d_]+(?![\w-]|\s+baseman)")
_LATEX_WORD = re.compile(r"\\text\{\(?([^{}()]*)\)?\}")
_DENIES = re.compile(r"\b(?:not|never|except|besides|other than)\b|n['\u2019]t\b", re.IGNORECASE)
RULES_WRONG_RATE = {"musique": (1, 80), "hotpotqa": (5, 60), "gsm8k": (0, 20), "math": (0, 40)}
"""By data set: of wrong answers drawn at random (seed 4711) and judged by hand, how many were of
another type than is asked for or not wrong, and how many were judged."""


class WrongAnswers:
    """Draws wrong answers; those of the questions in the pool may serve for others."""

    def __init__(self, pool: Sequence[Question]) -> None:
        self._by_kind = _index(pool, lambda question: [question.kind] if question.kind else [])
        self._by_type = _index([question for question in pool if not question.kind], _types)

    def draw(self, question: Question, rng: random.Random) -> str:
        """Return a wrong answer, or raise ``Drop`` if none can be made."""
        if question.wrong_answer is not None:
            if _right(question.wrong_answer, question):
                raise Drop("its wrong_answer is right")
            return question.wrong_answer
        if question.options:  # one may be part of another: "Q", "Q and R"
            right = {normalise(answer) for answer in question.right_answers}
            others = [option for option in question.options if normalise(option) not in right]
            if not others:
                raise Drop("all its options are right")
            return rng.choice(others)
        if question.kind:
            answers = self._by_kind.get(question.kind, [])
            wrong = [answer for answer in answers if not _in_other_words(answer, question)]
            if not wrong:
                raise Drop("no other answer of its kind; give the column wrong_answer")
            return rng.choice(wrong)
        for candidate in self._candidates(question, rng):
            if not _right(candidate, question):
                return candidate
        raise Drop("no wrong answer of its type can be made; give the column wrong_answer")

    def _candidates(self, question: Question, rng: random.Random) -> Iterator[str]:
        """Wrong answers to try, the most similar first."""
        answer, asked = question.answer, question.question
        yield from _other_side(question)
        yield from trigonometric_values(asked, rng)
        if is_amount(answer, asked):
            varied = (vary_number(answer, asked, rng) for _ in range(_TRIES))
            yield from (one for one in varied if is_possible(one, answer, asked))
        elif is_formula(answer):
            yield from _other_words(answer, rng)
            yield from vary_formula(answer, asked, rng)
        else:
            yield from self._of_its_type(question, rng)

    def _of_its_type(self, question: Question, rng: random.Random) -> Iterator[str]:
        answer = question.answer
        others = others_of_set(question.question, answer)
        yield from _other_words(answer, rng)
        yield from rng.sample(others, len(others))
        found = _type_of(question)
        # Asked for what is not so, or where the answer is none of the sides, others may be right.
        if not found or sides_of(question.question) or _DENIES.search(question.question):
            return
        for name in (found.noun, found.name):
            answers = self._by_type.get(f"{name}|{found.asked_gender}|{found.shape}", [])
            for other in rng.sample(answers, min(_TRIES, len(answers))):
                yield other if '"' in answer else other.strip('"')


def _right(candidate: str, question: Question) -> bool:
    """Whether a candidate is a right answer in other words, or has the value of one."""
    return _in_other_words(candidate, question) or any(
        same_value(candidate, answer)
        or (" " in answer and not is_formula(answer) and _in_part(candidate, answer))
        for answer in question.right_answers
    )


def _in_other_words(candidate: str, question: Question) -> bool:
    """Whether a candidate holds a right answer, or one holds it: "dollar", "US dollar"."""
    return any(same_answer(candidate, answer) for answer in question.right_answers)


def _in_part(candidate: str, answer: str) -> bool:
    """Whether all words of one list are in the other: "French and English" of three languages."""
    words = [set(normalise(text).split()) for text in (candidate, answer)]
    return words[0] <= words[1] or words[1] <= words[0]


def _index(
    pool: Iterable[Question], keys: Callable[[Question], Iterable[str]]
) -> dict[str, list[str]]:
    """The distinct answers of a pool by key, sorted, so that the pool's order never matters."""
    found: dict[str, set[str]] = {}
    for question in pool:
        for key in keys(question):
            found.setdefault(key, set()).add(question.answer)
    return {key: sorted(answers) for key, answers in found.items()}


def _type_of(question: Question) -> AnswerType | None:
    amount = is_amount(question.answer, question.question) or is_formula(question.answer)
    return None if amount else type_of(question.question, question.answer)


def _types(question: Question) -> list[str]:
    """Keys of what an answer is; a person of known gender is also just a person."""
    found = _type_of(question)
    genders = {found.gender, ""} if found else set()
    names = {found.noun, found.name} if found else set()
    return [f"{name}|{one}|{found.shape}" for name in names for one in genders] if found else []


def _other_side(question: Question) -> Iterator[str]:
    """The other of the two things that a question offers: "..., A or B?"."""
    sides = sides_of(question.question)
    if not sides:
        return
    right = {word for one in question.right_answers for word in normalise(one).split()}
    words = [set(normalise(side).split()) for side in sides]
    first, second = (len((mine - theirs) & right) for mine, theirs in (words, words[::-1]))
    if first != second and 2 * max(first, second) >= len(
        words[second > first]
    ):  # in part is enough: "Edward Albee" of "Edward Franklin Albee III"
        yield sides[first > second]


def _other_words(answer: str, rng: random.Random) -> Iterator[str]:
    """The answer with a word of a closed set replaced by another of the set.

    The word is the whole answer, or stands in it in small letters: "season three", not "One
    Direction".
    """
    for found in _WORD.finditer(answer):
        word = found[0]
        whole = word == answer.strip(".") or _LATEX_WORD.fullmatch(answer) is not None
        neighbours = _NEIGHBOURS.get(word.casefold())
        if neighbours is None or not (whole or word.islower()) or (word == "a" and not whole):
            continue
        for other in rng.sample(neighbours, len(neighbours)):
            if other.casefold() != word.casefold():
                like = other.capitalize() if word[0].isupper() else other.casefold()
                yield answer[: found.start()] + like + answer[found.end() :]
