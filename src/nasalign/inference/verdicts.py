"""The verdict of probabilities, of a short answer, and of a chain of thought."""

import re
from typing import Literal

from nasalign.prompts.answer_tokens import has_no_spaces
from nasalign.prompts.wordings import UNSURE, Vocabulary

Verdict = Literal["positive", "negative", "unsure", "invalid"]
VERDICTS: tuple[Verdict, ...] = ("positive", "negative", "unsure")
"""In the order of ``Vocabulary.forms``."""


def likeliest(p_positive: float, p_negative: float, p_unsure: float = 0.0) -> Verdict:
    """Return the verdict of the greatest probability; a tie is invalid."""
    values = (p_positive, p_negative, p_unsure)
    greatest = [said for said, p in zip(VERDICTS, values, strict=True) if p == max(values)]
    return greatest[0] if len(greatest) == 1 else "invalid"  # of NaN there is none


def parse_verdict(answer: str, words: Vocabulary) -> Verdict:
    """Return the verdict of a generated text.

    A text that begins with an answer word, in any case, has its verdict. Otherwise it must hold
    forms of one word alone, as the instruction writes them; of several words or none it is invalid.
    """
    begun = re.match(rf"\W*({_either(words)})", answer, re.IGNORECASE)
    if begun:
        return _verdict_of(begun[1], words)
    inside = [_verdict_of(found[0], words) for found in re.finditer(_either(words), answer)]
    return inside[0] if len(set(inside)) == 1 else "invalid"


def parse_final(text: str, words: Vocabulary) -> Verdict:
    """Return the verdict of a chain of thought.

    It is that of the last "Answer: Yes" or "the answer is yes"; else of a last line or a beginning
    that is the word alone. Words in the reasoning do not count, nor does "Answer: Yes or No".
    """
    either = _either(words, third=False)
    found = [
        *re.finditer(
            rf"(?<!\bor )(?<!\bor \W)\banswer\b(?:[^.\n]{{0,40}}?\bis\b)?\W*({either})"
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
    return _verdict_of(match[1], words)


def final_line(words: Vocabulary) -> re.Pattern[str]:
    """Return a pattern for the final line of a chain of thought, at which generation stops."""
    return re.compile(
        rf"^\W*(?:final )?answer\W+(?:{_either(words, third=False)})(?!\W*\bor\b)[^\n]*\n",
        re.IGNORECASE | re.MULTILINE,
    )


def _either(words: Vocabulary, *, third: bool = True) -> str:
    """A pattern of all forms, the longest first: "Not relevant" holds "relevant"."""
    forms = [form for word in words.forms[: 3 if third else 2] for form in word]
    return "|".join(_pattern_of(form) for form in sorted(forms, key=len, reverse=True))


def _pattern_of(form: str) -> str:
    if form == UNSURE:
        return r"\b[Ii] (?:do not|don['\u2019]?t) know\b"
    escaped = re.escape(form)
    return escaped if has_no_spaces(form) else rf"(?<!\w){escaped}(?!\w)"


def _verdict_of(said: str, words: Vocabulary) -> Verdict:
    """The verdict of a text that ``_either`` has matched."""
    for verdict, forms in zip(VERDICTS, words.forms, strict=False):
        if said.casefold() in [form.casefold() for form in forms]:
            return verdict
    return "unsure"  # "I do not know", in another spelling than the form
