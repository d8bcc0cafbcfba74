"""What a question asks for: a person, a city, a film, ... by its question word and head noun.

Answers of one type can serve as wrong ones for one another. The nouns of each type, and closed sets
such as countries, are in ``answer_types.csv``.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache, lru_cache

from nasalign.data.records import package_table

_TRANSPARENT = ("name", "names", "title", "one", "ones")
_QUALIFIERS = ("type", "kind", "sort", "form", "style", "genre", "category")
_START = re.compile(
    r"^(?:[^\w]*)(?:(?:in|to|from|for|of|at|on|by|with|under|during|after|into)\s+)?"
    r"(who|whom|whose|where|when|how|which|what)\b",
    re.IGNORECASE,
)
_EMBEDDED = re.compile(r"\b(what|which)\b(?!\s+(?:is|was|are|were|has|had|have|did|also)\b)", re.I)
_OTHER = re.compile(r"\b(who|whom|where|when|how)\b", re.IGNORECASE)
_PLAYS = re.compile(
    r"\bwho\b(?!\s+did\s+the\s+original).*\b(?:does|did)\b.*\b(?:play|voice|portray)\b",
    re.IGNORECASE,
)
_STUDIES = re.compile(r"\bwhere\b.*\b(?:educated|study|studied|attend|graduate)", re.IGNORECASE)
_LIVES = re.compile(r"\bwhere\b.*\b(?:born|die|died|live|lives|from|raised)\b", re.IGNORECASE)
_SENTENCE = re.compile(r"\b(?:is|was|are|were|has|had|have|which|who|that)\b")
_AUXILIARY = ("is", "was", "are", "were", "the", "has", "had", "have", "did", "does", "do", "a")
_KNOWN_AS = (
    "band",
    "group",
    "film",
    "movie",
    "show",
    "series",
    "brand",
    "label",
    "award",
    "school",
)
_MOST_WORDS = 6
_NOBODY = re.compile(  # no name of a person holds one of these
    r"\d|[/&:;!?]|\b(?:of|and|in|at|for|the|University|College|School|County|Club|Band|Company|Inc"
    r"|Records|Team|Association|League|Party|Church|Group|United|City|River|Museum|Gymnasium|Brothers"
    r"|Television|Channel|Studios?|Pictures|Films|Entertainment|Network|Press|Bank|Airlines"
    r"|Corporation|Agency|Department|Society|Commission|Army|Navy|Government|[A-Z]{3,})\b"
    r"|(?:ians|ers|ists|ese)$"
)


@dataclass(frozen=True)
class AnswerType:
    """What an answer is.

    Attributes:
        noun: the head noun, or "who" with its verb: narrower than ``name``.
        name: ``person``, a head noun, ``kind of ...``, or a question's first words.
        gender: ``female`` or ``male`` where question or name tells it of a person, or nothing.
        asked_gender: the same where the question tells it.
        shape: how it is written; answers that serve for one another share it.
    """

    noun: str
    name: str
    gender: str
    asked_gender: str
    shape: str


@cache
def _words(role: str) -> dict[str, list[str]]:
    """The words of a role by type."""
    table = package_table("answer_types.csv")
    return {row["type"]: row["words"].split("|") for row in table if row["role"] == role}


@cache
def _by_word(role: str) -> dict[str, tuple[str, ...]]:
    """The types of each word of a role."""
    found: defaultdict[str, tuple[str, ...]] = defaultdict(tuple)
    for name, words in _words(role).items():
        for word in words:
            found[word.casefold()] += (name,)
    return dict(found)


@lru_cache(maxsize=65_536)
def type_of(question: str, answer: str) -> AnswerType | None:
    """Return what an answer to a question is; None of a sentence or of what is not asked for."""
    words = answer.split()
    if not words or len(words) > _MOST_WORDS or _SENTENCE.search(answer):
        return None
    noun, name = _asked(question)
    if name in _words("word")["vague"] or (answer[0].islower() and len(words) > 3):
        return None
    if name == "person" and (not answer[:1].isupper() or _NOBODY.search(answer)):
        return None
    if name == "state" and answer.casefold() not in _by_word("member"):
        return None  # of another country
    asked = _gender(question) if name == "person" else ""
    names = _by_word("name").get(words[0].casefold(), ())
    if name not in ("person", "character") and names and noun not in _KNOWN_AS:
        return None  # a person, where a thing is asked for
    gender = asked or (names[0] if len(names) == 1 and name == "person" else "")
    return AnswerType(noun, name, gender, asked, _shape(answer, name))


def others_of_set(question: str, answer: str) -> list[str]:
    """Return the other members of the closed set that an answer is in: of Kentucky the states.

    The question chooses where a word is in several: English is a language and a nationality.
    """
    plain = answer.removeprefix("the ").removeprefix("The ").strip(".")
    sets = _by_word("member").get(plain.casefold(), ())
    name = _asked(question)[1].removeprefix("kind of ")
    fitting = [one for one in sets if one == name]
    anywhere = _question_word(question)[0] == "where" or name not in _words("noun")
    if not fitting and len(sets) == 1 and anywhere:
        fitting = list(sets)
    if not fitting and name in ("country", "region") and "nationality" in sets:
        fitting = ["nationality"]
    return [word for one in fitting[:1] for word in _words("member")[one] if word != plain]


def _shape(answer: str, name: str) -> str:
    """Capitals, commas, length and a telling last word, as far as they matter for a type."""
    words = answer.strip(" .\"'").split()
    case = "name" if answer.strip("\"'(")[:1].isupper() else "word"
    last = words[-1].casefold().strip(".,") if words else ""
    suffix = last if last in _words("word")["last"] and name != "person" else ""
    several = "," if "," in answer.rstrip(",") or " and " in answer else ""
    digits = "0" if any(sign.isdigit() for sign in answer) else ""
    plural = "s" if case == "word" and last.endswith("s") else ""
    article = words[0].casefold() if words and words[0].casefold() in ("the", "a", "an") else ""
    return f"{article} {case}{several}{digits}{plural} {suffix}"


def _gender(question: str) -> str:
    """The gender that the asked-for role tells, such as that of a wife."""
    words = [*_noun_phrase(question), *question.casefold().split()[:6]]
    cues = (_by_word("cue").get(word.strip("?,."), ()) for word in words)
    return next((found[0] for found in cues if found), "")


@lru_cache(maxsize=65_536)
def _asked(question: str) -> tuple[str, str]:
    """The head noun and the type that a question asks for."""
    word, rest = _question_word(question)
    if word in ("who", "whom"):
        verbs = [one for one in rest.casefold().split() if one not in _AUXILIARY]
        name = "character" if _PLAYS.search(question) else "person"
        if name == "person" and set(verbs[:1]) & set(_words("word")["group"]):
            return "who", verbs[0]  # a team wins, and a company distributes
        return f"who {''.join(verbs[:1])}", name
    if word == "where":
        if _STUDIES.search(question):
            return "where", "university"
        return ("where from", "city") if _LIVES.search(question) else ("where", "place")
    if word in ("when", "how"):
        name = f"{word} {''.join(rest.split()[:1])}".casefold()
        return name, name
    phrase = _noun_phrase(question)
    if not phrase and word:
        return "", "name"
    if not phrase:
        name = "starts " + " ".join(question.casefold().split()[:3])
        return name, name
    if phrase[0] in _QUALIFIERS and len(phrase) > 1:
        return f"kind of {phrase[-1]}", f"kind of {phrase[-1]}"
    noun, name = phrase[-1], " ".join(phrase[-2:])
    if noun in _by_word("noun") and not set(phrase) & set(_words("word")["narrow"]):
        return noun, _by_word("noun")[noun][0]
    return name, noun if noun in _words("word")["vague"] else name


def _question_word(question: str) -> tuple[str, str]:
    """The question word, and what follows it."""
    found = _START.search(question)
    if not found:
        every = list(_EMBEDDED.finditer(question))
        whats = [one for one in every if one[1].casefold() == "what"]
        last = (whats or every or list(_OTHER.finditer(question)))[-1:]
        found = last[0] if last else None
    return (found[1].casefold(), question[found.end() :]) if found else ("", "")


@lru_cache(maxsize=65_536)
def _noun_phrase(question: str) -> tuple[str, ...]:
    """The words of "which Japanese car maker", without articles and with "name of the" skipped."""
    word, rest = _question_word(question)
    if word not in ("which", "what", "whose"):
        return ()
    tokens = re.sub(r"['\u2019]s\b", "", re.sub(r"[^\w'\u2019. -]", " | ", rest)).split()
    skipped = ("is", "was", "are", "were", "the", "a", "an", "this", "of", "other", "following")
    phrase: list[str] = []
    for place, token in enumerate(tokens):
        plain = token.casefold().strip(".")
        if plain in _TRANSPARENT and tokens[place + 1 : place + 2] == ["of"]:
            phrase = []
            continue
        joins = plain == "of" and len(phrase) == 1 and phrase[0] in _QUALIFIERS
        if joins or (not phrase and plain in skipped):
            continue
        if plain == "|" or plain in _words("word")["stop"]:
            break
        phrase.append(_singular(plain))
    return tuple(phrase)


def _singular(noun: str) -> str:
    known = _by_word("noun")
    return noun if noun in known or noun.removesuffix("s") not in known else noun.removesuffix("s")
