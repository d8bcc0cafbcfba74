"""Is a free answer right? By normalised text, or by a language model (Table 15)."""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from nasalign.data.conversation import Chat, Conversation
from nasalign.data.records import Question
from nasalign.progress import Progress

JUDGE_INSTRUCTION = (
    "Can the prediction be considered as the same meaning as the answer to the question? "
    "You must answer only yes or no."
)

_ARTICLES = re.compile(r"\b(a|an|the) (?=\w)")  # not the A of "vitamin A"
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
_APOSTROPHES = re.compile("['\u2019]")
# The point of 3.5 and the sign of -15 stay; the underscores of _Paris_ go.
_NOT_WORD = re.compile(r"(?:(?!(?<=\d)\.(?=\d)|(?<!\w)-(?=\d))[\W_])+")


@lru_cache(maxsize=65_536)
def normalise(text: str) -> str:
    """Return a text in lower case without accents, articles, punctuation and extra spaces."""
    decomposed = unicodedata.normalize("NFKD", text)
    plain = "".join(sign for sign in decomposed if not unicodedata.combining(sign)).casefold()
    plain = _THOUSANDS.sub("", _APOSTROPHES.sub("", plain))
    return " ".join(_ARTICLES.sub(" ", _NOT_WORD.sub(" ", plain)).split())


def matches(prediction: str, question: Question) -> bool:
    """Return whether a prediction holds the answer or an alias as whole words.

    Answers of one or two characters (chemical symbols) must match in case too: "As" is arsenic,
    "as" is a word. With options, the letter of the right one counts too.
    """
    if question.options:
        return _chooses(prediction, question)
    return any(_holds(prediction, answer) for answer in question.right_answers)


def _chooses(prediction: str, question: Question) -> bool:
    """Whether a prediction names the right option, by its letter or its text, and no other."""
    letter = re.match(r"\W*([A-Z])(?:[).:,]|\s*$)", prediction) or re.search(
        r"\(([A-Z])\)", prediction
    )
    if letter and ord(letter[1]) - ord("A") < len(question.options):
        return question.options[ord(letter[1]) - ord("A")] == question.answer
    named = [option for option in question.options if _holds(prediction, option)]
    return bool(named) and max(named, key=len) == question.answer


def judge(
    questions: Sequence[Question],
    predictions: Sequence[str],
    chat: Chat | None = None,
    progress: Progress | None = None,
) -> list[bool | None]:
    """Return whether each of N predictions is right (Appendix E).

    With ``chat``, a language model is asked by the prompt of Table 15, and a verdict is None where
    it says neither yes nor no; without, ``matches`` decides.
    """
    if chat is None:
        return [matches(said, asked) for said, asked in zip(predictions, questions, strict=True)]
    conversations = [
        Conversation(
            JUDGE_INSTRUCTION,
            f"Question: {asked.question}\nPrediction: {said}\nAnswer: {asked.answer}",
        )
        for asked, said in zip(questions, predictions, strict=True)
    ]
    return [yes_or_no(answer) for answer in chat.complete(conversations, progress)]


def yes_or_no(answer: str | None) -> bool | None:
    """Read a judge's verdict: the answer must begin with yes or no."""
    beginning = re.match(r"\W*(yes|no)\b", answer or "", re.IGNORECASE)
    return None if beginning is None else beginning[1].casefold() == "yes"


def same_answer(left: str, right: str) -> bool:
    """Return whether one of two answers holds the other: "dollar" and "US dollar"."""
    return _holds(left, right) or _holds(right, left)


def _holds(text: str, answer: str) -> bool:
    if len(answer) <= 2 and not answer.isdigit():
        return re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text) is not None
    wanted = normalise(answer) or answer.casefold().strip()
    return f" {wanted} " in f" {normalise(text) or text.casefold().strip()} "
