"""A number nearby, in the same format: ``$72,641`` -> ``$65,641``, ``3rd`` -> ``4th``."""

import random
import re
from collections.abc import Sequence

import numpy as np

_SEPARATOR = r"(?:,\s?\\!\s?|\{,\}|,)"
_GROUPED = rf"\d{{1,3}}(?:{_SEPARATOR}\d{{3}})+(?!\d)"
# Not a number: the digit of \frac47 after the first, a base as in 12_5, a letter's index as in x_1.
_NUMBER = re.compile(rf"(?<![_\d.])(?<!_\{{)(?:{_GROUPED}|\d+)(?:\.\d+)?|(?<![\d\w])\.\d+")
_MOST_DIGITS = 300  # a float can hold no more, and Python refuses to read very long numbers
_LATEST = 2024  # no year of an answer lies beyond
_ENDLESS = re.compile(rf"\d{{{_MOST_DIGITS + 1}}}")
_ORDINAL = re.compile(r"(\d+)(st|nd|rd|th)\b")
_YEAR = re.compile(r"1\d{3}|20\d{2}")
_ASKS_FOR_YEAR = re.compile(r"\b(?:year|when|date|birthday|decade)\b", re.IGNORECASE)
_ASKS_FOR_COUNT = re.compile(
    r"\bhow (?!old\b)\w+\b(?<!how recently)|\b(?:population|number|capacity|amount|total|cost"
    r"|price|many|sum|product|value|inhabitants|elevation|height|area|length)\b",
    re.IGNORECASE,
)
_CENTURY = re.compile(r"\b(\d{1,2})(?:st|nd|rd|th)\W+century")
_DECADE = re.compile(r"\b(?:1\d|20)\d0(?=s\b)")
_MONTH = re.compile(r"\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\b")
_AMOUNT_WORD = re.compile(
    rf"{_MONTH.pattern}|\b(?:BC|AD|BCE|CE|Euros?)\b|^(?:The|About|Around|On|In)\b"
)
_IN_FORMULA = re.compile(
    r"[\\=^_{}]|^\W*\d+/\d+\W*$|^[^A-Za-z]*(?:[(\[|]|,(?!\d{3}(?!\d)))[^A-Za-z]*$"
)  # LaTeX, a fraction, a list or a pair
_GLUED = re.compile(r"[A-Za-z]\d|\d[A-Z]|\d[a-z](?!\w)")
_UNIT = re.compile(r"(?<=\d)(?:st|nd|rd|th|km|m|ft|cm|mi|kg|g|s)\b|\b(?:km|mi|m|ft|cm)[23]")
_TIME = re.compile(r"\b\d{1,2}(?=:\d\d\b)")


def is_amount(answer: str, question: str) -> bool:
    """Return whether an answer is a number, a date or a quantity, and no name with digits in it."""
    if not any(sign.isdigit() for sign in answer) or _IN_FORMULA.search(answer):
        return False
    rest = _AMOUNT_WORD.sub(" ", _UNIT.sub("", answer))
    return not (re.search(r"[A-Z]", rest) or _GLUED.search(rest))


def vary_number(text: str, question: str, rng: random.Random) -> str:
    """Return an amount changed to one nearby, in the same format: every number that decides it.

    A quantity in two units, or the two ends of a range, are changed alike; of a date it is the
    year, and else the day. The question tells a year from a count.
    """
    found = numbers_in(text)
    if not found:
        return text
    time = _TIME.search(text)
    if time:
        return _replace(text, time, str(rng.choice([h for h in range(1, 13) if h != int(time[0])])))
    century = _CENTURY.search(text)
    if century:
        near = range(max(1, int(century[1]) - 4), min(_LATEST // 100, int(century[1]) + 4) + 1)
        others = [str(one) for one in near if one != int(century[1])]
        return replace_all(
            text,
            [next(one for one in found if one.start() == century.start())],
            [rng.choice(others)],
        )
    dated = _MONTH.search(text) is not None
    years = [one for one in found if _YEAR.fullmatch(one[0])]
    decades = list(_DECADE.finditer(text))
    if decades:
        change = rng.choice((-20, -10))
        return replace_all(text, decades, [str(int(one[0]) + change) for one in decades])
    timed = dated or _ASKS_FOR_YEAR.search(question) or not _ASKS_FOR_COUNT.search(question)
    if years and timed:
        latest = max(int(one[0]) for one in years)
        change = rng.choice((-1, 1) if latest < _LATEST - 12 else (-1,)) * rng.randint(1, 12)
        fresh = [str(int(one[0]) + change) for one in years]
        return replace_all(text, years, fresh)
    if dated:
        days = [one for one in found if len(one[0]) <= 2] or found
        return replace_all(text, days, [str(rng.randint(1, 28)) for _ in days])
    found = [one for one in found if one not in years] or found  # "28,776 at the 2010 census"
    first = nearby(found[0][0], rng)
    factor = _digits(first) / max(1, _digits(found[0][0]))
    rest = [_scaled(one[0], factor) for one in found[1:]]
    return replace_all(text, found, [first, *rest])


def numbers_in(text: str) -> list[re.Match[str]]:
    """Return the numbers of a text that can be changed, without the 2 of "km2"."""
    every = [] if _ENDLESS.search(text) else _NUMBER.finditer(text)
    units = {one.end() - 1 for one in _UNIT.finditer(text)}
    return [one for one in every if len(one[0]) <= _MOST_DIGITS and one.start() not in units]


def replace_all(text: str, found: Sequence[re.Match[str]], fresh: Sequence[str]) -> str:
    """Return a text with some of its numbers replaced, and the endings of ordinals with them."""
    for one, number in sorted(zip(found, fresh, strict=True), key=lambda pair: -pair[0].start()):
        text = _replace(text, one, number)
    return text


def _digits(number: str) -> int:
    return int(re.sub(r"\D", "", number))


def _scaled(number: str, factor: float) -> str:
    """A number times a factor, as long after the point; always another one."""
    value = _digits(number)
    fresh = round(value * factor)
    fresh = max(1, fresh if fresh != value else value + (1 if factor > 1 else -1))
    fresh = fresh if fresh != value else value + 1
    return _like(number, str(fresh).zfill(len(re.sub(r"\D", "", number)) if "." in number else 1))


def nearby(number: str, rng: random.Random, base: int = 10) -> str:
    """Return a number that differs by a twentieth to a half, as round and as long as this one."""
    digits = re.sub(r"\D", "", number)
    if base < 10 and all(int(sign) < base for sign in digits):
        return np.base_repr(_changed(int(digits, base), rng), base)
    value, width = int(digits), len(digits)
    # 140000 is changed in steps of 10000, so that the new number is as round.
    step = 10 ** (width - len(digits.rstrip("0"))) if value else 1
    while step > 1 and value // step < 4:
        step //= 10
    fresh = str(_changed(value // step, rng) * step)
    return _like(number, fresh.zfill(width) if digits.startswith("0") or "." in number else fresh)


def _changed(value: int, rng: random.Random) -> int:
    """Another number above 0."""
    while True:
        change = max(1, round(value * rng.uniform(0.05, 0.5))) if value > 3 else rng.randint(1, 3)
        fresh = value + rng.choice((-1, 1)) * change
        if fresh > 0:
            return fresh


def _like(pattern: str, digits: str) -> str:
    """Digits with the decimal point and the thousands signs of a pattern."""
    decimals = len(pattern.partition(".")[2])
    fraction = f".{digits[-decimals:]}" if decimals else ""
    whole = digits[: len(digits) - decimals]
    separator = re.search(_SEPARATOR, pattern)
    if separator:
        whole = f"{int(whole):,}".replace(",", separator[0])
    return whole + fraction


def _replace(text: str, found: re.Match[str], fresh: str) -> str:
    """Replace a number, and with it the ending of an ordinal."""
    ordinal = _ORDINAL.match(text, found.start())
    end = found.end()
    if ordinal and ordinal.end(1) == end:
        number, end = int(re.sub(r"\D", "", fresh)), ordinal.end()
        special = number % 100 not in (11, 12, 13)
        fresh += {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if special else "th"
    return text[: found.start()] + fresh + text[end:]
