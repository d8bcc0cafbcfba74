"""Whether a question asks for Yes or No by its form, in some languages."""

import re
from typing import Literal

from nasalign.data.records import package_table

Form = Literal["closed", "open", "unknown"]
_WORDS: dict[str, set[str]] = {}
for _row in package_table("question_words.csv"):
    _WORDS.setdefault(_row["form"], set()).add(_row["word"])
_ANYWHERE = _WORDS["open anywhere"]
_OPEN = _WORDS["open"] | _ANYWHERE
_BEFORE = frozenset(("in", "on", "at", "of", "for", "to", "from", "by", "with", "under", "during"))
_GERMAN = frozenset(("ist", "sind", "der", "das", "ein", "eine", "einen", "wird", "heißt"))
_WORD = re.compile(r"[\w'-]+")


def form_of(question: str) -> Form:
    """Return ``closed`` for a yes/no question, ``open`` for one that asks for something else.

    A question between two things is neither, and what is no question is ``unknown``.
    """
    words = _WORD.findall(question.casefold().replace("\u2019", "'"))
    if not words:
        return "unknown"
    if any(part in question for part in _WORDS["open part"]):
        return "open"
    asked = question.rstrip().endswith(("?", "\uff1f"))
    begins = words[0] in _OPEN or (words[0] in _BEFORE and len(words) > 1 and words[1] in _OPEN)
    if begins and (words[0] != "was" or _GERMAN & set(words)):  # "Was ist ...?", "Was it ...?"
        return "open"
    if any(part in question for part in _WORDS["closed part"]):
        return "closed"
    if words[0] in _WORDS["closed"]:
        return "unknown" if _WORDS["two"] & set(words) else "closed"
    return "open" if asked and _ANYWHERE & set(words) else "unknown"
