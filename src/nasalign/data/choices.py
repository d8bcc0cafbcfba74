"""The two things between which a question lets choose: "Who is older, A or B?"."""

import re

_SMALL = r"(?:of|the|de|la|van|von|in|and|for|du|des|der|el|le|to|a|an|on|at|&|vs?\.)"
_CAPITAL = r"[\"'\u201c(]*[A-Z0-9\u00c0-\u00de][^\s,?]*"
_NAME = rf"{_CAPITAL}(?:,?\s(?:{_SMALL}\s)*{_CAPITAL})*"
_NAMES = re.compile(
    rf"(?P<first>{_NAME}),?\s+or\s+(?:the\s+|a\s+|an\s+)?(?P<second>{_NAME})"
    rf"|\b(?i:between|out\s+of|(?:which|who)\s+of)\s+(?:\w+\s+){{0,4}}?(?P<third>{_NAME}?),?\s+and\s+"
    rf"(?:the\s+|a\s+|an\s+)?(?P<fourth>{_NAME}?)(?=,|\?|\s+[a-z]|\s*$)"
)
_WORDS = re.compile(r"(?:^|[,:;]\s*|\b(?:is|was|are|were|by|first)\s+)([^,:;?]+?),? or ([^,?]+)\?")
_ASKS = re.compile(
    r"^(?:.*:\s+|(?:Which|What|Who|Whose|When|Where|How|In|Of|Was|Were|Is|Are|Did|Does|Has)\s+(?:the\s+)?)+"
    r"|^\d{4}\s+(?=[A-Z])"
)
_LONGEST = 1000
_REST = re.compile(r"((?:\s+[^\s,?]+){1,5})\s*\??$")  # "the Western Allied" invasion of Germany
_VERB = re.compile(
    r"\b(?:is|are|was|were|has|had|have|did|does|came|formed|contains?|who|which|that|more|first|in|[a-z]+er)\b"
)
_LEADS_ON = re.compile(r"\b(?:from|in|to|of|for|the|at|on|by|with|near)\s+$")


def sides_of(question: str) -> tuple[str, str] | None:
    """Return the two things that a question offers, or None."""
    question = question[-_LONGEST:]  # it is the end that asks
    found = _NAMES.search(question)
    if found:
        first, second = (side for side in found.groups() if side)
        if _LEADS_ON.search(question[: found.start()]):  # "is native to France, the Basset or ..."
            first = re.sub(r"^[^,]*,\s+(?:the\s+)?", "", first)
        rest = _REST.match(question, found.end())
        second += rest[1] if rest and found["second"] and not _VERB.search(rest[1]) else ""
        return _ASKS.sub("", first).strip(" \"'"), second.strip(" \"'.")
    plain = _WORDS.search(question)
    return (plain[1].strip(), plain[2].strip()) if plain else None
