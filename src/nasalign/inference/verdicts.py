"""The verdict of probabilities, of a short answer, and of a chain of thought."""

import re
from typing import Literal

from nasalign.prompts.wordings import Vocabulary

Verdict = Literal["positive", "negative", "unsure", "invalid"]
_UNSURE = re.compile(r"\bI (?:do not|don['\u2019]?t) know\b", re.IGNORECASE)


def likeliest(p_positive: float, p_negative: float, p_unsure: float = 0.0) -> Verdict:
    """Return the verdict of the greatest probability; a tie is invalid."""
    verdicts: tuple[Verdict, ...] = ("positive", "negative", "unsure")
    values = (p_positive, p_negative, p_unsure)
    greatest = [said for said, p in zip(verdicts, values, strict=True) if p == max(values)]
    return greatest[0] if len(greatest) == 1 else "invalid"  # of NaN there is none


def parse_verdict(answer: str, words: Vocabulary, unsure: bool = False) -> Verdict:
    """Return the verdict of a generated text; with ``unsure``, "I don't know" is an answer too.

    A text that begins with an answer word, in any case, has its verdict. Otherwise it must hold one
    of the words as the instruction writes it; both or none is invalid.
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
    """Return the verdict of a chain of thought.

    It is that of the last "Answer: Yes" or "the answer is yes"; else of a last line or a beginning
    that is the word alone. Words in the reasoning do not count, nor does "Answer: Yes or No".
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
    """Return a pattern for the final line of a chain of thought, at which generation stops."""
    return re.compile(
        rf"^\W*(?:final )?answer\W+(?:{_either(words)})\b(?!\W*\bor\b)[^\n]*\n",
        re.IGNORECASE | re.MULTILINE,
    )


def _either(words: Vocabulary) -> str:
    return f"{words.positive}|{words.negative}"
