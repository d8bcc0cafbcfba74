"""Reading a verdict off probabilities, off a short answer, or off the end of a chain of thought."""

import re
from typing import Literal

from nasalign.prompts.wordings import Vocabulary

Verdict = Literal["positive", "negative", "unsure", "invalid"]
_UNSURE = re.compile(r"\bI (?:do not|don['\u2019]?t) know\b", re.IGNORECASE)


def likeliest(p_positive: float, p_negative: float, p_unsure: float = 0.0) -> Verdict:
    """Returns the verdict of the greatest probability; a tie is invalid."""
    said: dict[Verdict, float] = {
        "positive": p_positive,
        "negative": p_negative,
        "unsure": p_unsure,
    }
    greatest = [verdict for verdict, p in said.items() if p == max(said.values())]
    return greatest[0] if len(greatest) == 1 else "invalid"


def parse_verdict(answer: str, words: Vocabulary, unsure: bool = False) -> Verdict:
    """Reads a verdict off a generated text.

    A text that begins with an answer word, in whatever case, says that. Otherwise the one answer
    word that stands in it, as written in the instruction, counts; both or none is invalid.

    Args:
        answer: the text.
        words: the answer words.
        unsure: whether "I don't know" is a third answer.
    """
    named: dict[str, Verdict] = {words.positive: "positive", words.negative: "negative"}
    beginning = re.match(r"\W*(\w+)", answer)
    for word, verdict in named.items():
        if beginning and beginning[1].casefold() == word.casefold():
            return verdict
    inside = [verdict for word, verdict in named.items() if re.search(rf"\b{word}\b", answer)]
    does_not_know = _UNSURE.search(answer) if unsure else None
    if does_not_know and (not inside or not answer[: does_not_know.start()].strip()):
        return "unsure"
    return inside[0] if len(inside) == 1 and not does_not_know else "invalid"


def parse_final(text: str, words: Vocabulary) -> Verdict:
    """Reads the verdict off a chain of thought.

    The last "Answer: Yes" or "the answer is yes" counts; else a last line or a beginning that is
    the word alone. What stands in the reasoning does not, nor does "Answer: Yes or No".
    """
    either = _either(words)
    found = [
        *re.finditer(
            rf"(?<!\bor )(?<!\bor \W)\banswer\b(?:[^.\n]{{0,40}}?\bis\b)?\W*\b({either})\b"
            r"(?!\W*\bor\b)(?=\s*(?:\n|\Z)|[^\w\s])",
            text,
            re.IGNORECASE,
        )
    ]
    match = (
        (found[-1] if found else None)
        or re.search(rf"^\W*({either})\W*\Z", text, re.IGNORECASE | re.MULTILINE)
        or re.match(rf"\W*({either})\s*[.,;:!]", text, re.IGNORECASE)
    )
    if match is None:
        return "invalid"
    return "positive" if match[1].casefold() == words.positive.casefold() else "negative"


def final_line(words: Vocabulary) -> re.Pattern[str]:
    """Returns what a whole last line of a chain of thought matches, so that it can end there."""
    return re.compile(
        rf"^\W*(?:final )?answer\W+(?:{_either(words)})\b(?!\W*\bor\b)[^\n]*\n",
        re.IGNORECASE | re.MULTILINE,
    )


def _either(words: Vocabulary) -> str:
    return f"{words.positive}|{words.negative}"
