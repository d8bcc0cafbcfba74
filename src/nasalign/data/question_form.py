"""Whether a question asks for Yes or No by its form, in some languages."""

import re
from typing import Literal

Form = Literal["closed", "open", "unknown"]
_CLOSED = frozenset(
    "is are was were am be do does did has have had can could will would shall should may might must "
    "isn't aren't wasn't weren't don't doesn't didn't hasn't haven't hadn't can't couldn't won't "
    "wouldn't shouldn't ist sind war waren hat haben hatte hatten kann können konnte wird werden "
    "wurde soll muss darf gibt est-ce est sont a-t-il peut es está son fue hay puede tiene ha "
    "czy".split()
)
_OPEN = frozenset(
    "who whom whose what which when where why how wer wen wem wessen was wann wo woher wohin warum "
    "wie wieso welche welcher welches welchen wieviele qui que quoi quand où quel quelle quels "
    "quelles comment pourquoi combien quién qué cuándo dónde cuál cuáles cómo cuánto cuántos "
    "quiénes".split()
)
_WITHIN = frozenset("who whom whose what which when where why how".split())
_GERMAN = frozenset("ist sind der das ein eine einen dem den wird heißt".split())
_BEFORE = frozenset("in on at of for to from by with under during about into".split())
_OPEN_SIGNS = re.compile("谁|什么|哪|几|多少|为何|怎么|何|誰|どこ|いつ|なぜ|누구|무엇|어디")
_CLOSED_SIGNS = re.compile("吗|是否|か[。？?]?$")
_OR = frozenset({"or", "oder", "ou", "oder,", "或", "还是"})
_WORD = re.compile(r"[\w'’-]+")


def form_of(question: str) -> Form:
    """Return ``closed`` for a yes/no question, ``open`` for one that asks for something else.

    A question between two things is neither, and what is no question is ``unknown``.
    """
    words = _WORD.findall(question.casefold().replace("’", "'"))
    if not words:
        return "unknown"
    if _OPEN_SIGNS.search(question):
        return "open"
    asked = question.rstrip().endswith(("?", "？"))
    begins = words[0] in _OPEN or (words[0] in _BEFORE and len(words) > 1 and words[1] in _OPEN)
    if begins and (words[0] != "was" or _GERMAN & set(words)):  # "Was ist ...?", "Was it ...?"
        return "open"
    if _CLOSED_SIGNS.search(question):
        return "closed"
    if words[0] in _CLOSED:
        return "unknown" if _OR & set(words) else "closed"
    return "open" if asked and _WITHIN & set(words) else "unknown"
