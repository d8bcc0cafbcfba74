"""A number nearby, in the same format: ``$72,641`` -> ``$65,641``, ``3rd`` -> ``4th``."""

import math
import random
import re

import numpy as np

_SEPARATOR = r"(?:,\s?\\!\s?|\{,\}|,)"
_GROUPED = rf"\d{{1,3}}(?:{_SEPARATOR}\d{{3}})+(?!\d)"
# Not a number: the digit of \frac47 after the first, a base as in 12_5, a letter's index as in x_1.
_NUMBER = re.compile(rf"(?<![_\d.])(?<!_\{{)(?:{_GROUPED}|\d+)(?:\.\d+)?|(?<![\d\w])\.\d+")
_MOST_DIGITS = 300  # a float can hold no more, and Python refuses to read very long numbers
_ENDLESS = re.compile(rf"\d{{{_MOST_DIGITS + 1}}}")
_ORDINAL = re.compile(r"(\d+)(st|nd|rd|th)\b")
_BASE = re.compile(r"_\{?(\d+)\}?")
_YEAR = re.compile(r"1\d{3}|20\d{2}")
_ASKS_FOR_YEAR = re.compile(
    r"\b(?:year|born|founded|died|released|established|century)\b|\bwhen (?:did|was|were|is)\b",
    re.IGNORECASE,
)
_MONTH = re.compile(r"\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\b")
_FRACTION = re.compile(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}|(?<![\d.])(\d+)/(\d+)(?![\d.])")
_FRAC_DIGITS = re.compile(r"\\[dt]?frac\s*(\d)(\d)(?!\d)")


def vary_number(text: str, question: str, rng: random.Random) -> str:
    """Return an answer with one of its numbers changed to one nearby, in the same format.

    The question tells a year from a count.
    """
    short = _FRAC_DIGITS.search(text)
    if short:  # \frac47: two numbers of one digit each
        place = rng.choice((1, 2))
        digit = rng.choice([sign for sign in "123456789" if sign != short[place]])
        return text[: short.start(place)] + digit + text[short.end(place) :]
    every = [] if _ENDLESS.search(text) else _NUMBER.finditer(text)
    found = [one for one in every if len(one[0]) <= _MOST_DIGITS]
    if not found:
        return text
    dated = _MONTH.search(text) is not None
    years = [one for one in found if _YEAR.fullmatch(one[0])]
    if years and (dated or _ASKS_FOR_YEAR.search(question)):
        chosen = rng.choice(years)
        change = rng.choice((-1, 1)) * rng.randint(1, 12)
        return _replace(text, chosen, str(int(chosen[0]) + change))
    chosen = rng.choice(found)
    if dated and len(chosen[0]) <= 2:
        return _replace(text, chosen, str(rng.randint(1, 28)))
    written = _BASE.match(text, chosen.end())  # as in 1201_3
    base = int(written[1]) if written and int(written[1]) > 1 else 10
    return _replace(text, chosen, _nearby(chosen[0], rng, base))


def is_reduced(text: str) -> bool:
    """Return whether every fraction of whole numbers in a text is in its lowest terms."""
    for found in _FRACTION.finditer(text):
        if len(found[0]) > _MOST_DIGITS:
            continue
        above, below = (int(part) for part in found.groups() if part)
        if math.gcd(above, below) != 1 or below == 1:
            return False
    return True


def _nearby(number: str, rng: random.Random, base: int) -> str:
    """A number that differs by a twentieth to a half, as round and as long as this one."""
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
