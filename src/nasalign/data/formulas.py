"""Wrong values of a formula or a number: as it would be written, and possible for the question.

Coefficients change, exponents stay; a fraction stays reduced and a root free of squares. What the
question demands of a value holds for the wrong one too: a probability is below 1, a remainder below
the divisor, a sine between -1 and 1.
"""

import math
import random
import re
from collections.abc import Iterator
from fractions import Fraction

from nasalign.data.numbers import nearby, numbers_in, replace_all

_TRIES = 60
_MOST_DIGITS = 300  # Python refuses to read very long numbers
_FORMULA = re.compile(r"[\\=^_{}]|^(?=.*[-+*/\d])(?!.*[A-Za-z]{3})[-+*/()\[\]\d\s.,:|<>!a-z]+$")
_FRACTION = re.compile(
    r"\\[dt]?frac\{(\d+)\}\{(\d+)\}|\\[dt]?frac\s*(\d)\s*(\d)(?!\d)|(?<![\d.])(\d+)/(\d+)(?![\d.])"
)
_FRAC_DIGITS = re.compile(r"\\[dt]?frac\s*(\d)\s*(\d)(?!\d)")
_BASE = re.compile(r"_\{?(\d+)\}?")
_FIXED = re.compile(r"(?:\^\s*\{?-?|\\sqrt\[)$")  # what stands before an exponent or an index
_ROOT = re.compile(r"\\sqrt\s*\{?\s*(\d+)")
_UNWRITTEN = re.compile(
    r"(?<![\d.{,])1(?=\s*(?:[a-zA-Z(]|\\sqrt|\\pi))|\^\{?[01]\}?(?!\d)|\\sqrt\s*\{?[01]\}?(?!\d)"
)
_SIN, _TAN, _SEC = (
    ["0", "1", "\\frac{1}{2}", "\\frac{\\sqrt{2}}{2}", "\\frac{\\sqrt{3}}{2}"],
    ["0", "1", "\\sqrt{3}", "\\frac{\\sqrt{3}}{3}"],
    ["1", "2", "\\sqrt{2}", "\\frac{2\\sqrt{3}}{3}"],
)
_VALUES = {"sin": _SIN, "cos": _SIN, "tan": _TAN, "cot": _TAN, "sec": _SEC, "csc": _SEC}
_TRIGONOMETRIC = re.compile(
    r"^\W*(?:Compute|Find|Evaluate|What is|Calculate)[^.]{0,12}\\(sin|cos|tan|cot|sec|csc)\b"
    r"[^.a-z]{0,40}"
    r"(?:circ|pi)?[^a-z]{0,25}$"
)
_LENGTHS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_LENGTH = re.compile(rf"\b({'|'.join(_LENGTHS)}|\d)-digit\b")


def is_formula(answer: str) -> bool:
    """Return whether an answer is LaTeX or an expression; a plain number is one too."""
    return _FORMULA.search(answer) is not None


def trigonometric_values(question: str, rng: random.Random) -> list[str]:
    """Return what a sine, tangent, ... can be, in random order; nothing of another question."""
    asked = _TRIGONOMETRIC.search(question)
    values = _VALUES[asked[1]] if asked else []
    values = [*values, *(f"-{one}" for one in values if one != "0")]
    return rng.sample(values, len(values))


def vary_formula(answer: str, question: str, rng: random.Random) -> Iterator[str]:
    """Yield wrong values of a formula; whether one is right in other words is for the caller."""
    strict = is_written(answer)
    found = numbers_in(answer)
    for _ in range(_TRIES if found else 0):
        candidate = _vary_one(answer, found, rng)
        written = (is_written(candidate) or not strict) and _parts(candidate) >= _parts(answer)
        if candidate != answer and written and is_possible(candidate, answer, question):
            yield candidate
    if not found:
        yield from _other_signs(answer)


def _parts(text: str) -> int:
    """How many different parts a list has."""
    return len({part.strip() for part in text.split(",")})


def is_written(text: str) -> bool:
    """Return whether a formula is in the form in which answers are given: simplified."""
    for found in _FRACTION.finditer(text):
        if len(found[0]) > _MOST_DIGITS:
            continue
        above, below = (int(part) for part in found.groups() if part)
        if math.gcd(above, below) != 1 or below == 1:
            return False
    roots = [int(found[1]) for found in _ROOT.finditer(text) if len(found[1]) < 7]
    square = any(root % (part * part) == 0 for root in roots for part in range(2, 1000))
    return not square and _UNWRITTEN.search(text) is None


def is_possible(candidate: str, answer: str, question: str) -> bool:
    """Return whether a value can be asked for: in range for a probability, a remainder, a digit."""
    value, right = _value(candidate), _value(answer)
    if value is None or right is None:
        return True
    last = re.split(r"(?<=[.?!])\s+(?=[A-Z])", question.strip())
    asked = " ".join(last[-2:]).casefold()
    below = []
    if (
        re.search(r"probability|\bchances?\b|what fraction|fractional part", asked)
        and 0 < right < 1
    ):
        below.append(Fraction(1))
    if re.search(r"percent", asked) and right <= 100:
        below.append(Fraction(101))
    if "angle" in asked and right <= 180:
        below.append(Fraction(180))
    divisor = re.search(r"divided by\s*\$?\s*(\d{1,30})", question)
    if re.search(r"remainder|residue", asked) and divisor and right < int(divisor[1]):
        below.append(Fraction(int(divisor[1])))
    if re.search(r"\b(?:digit|hour on)\b", asked) and not re.search(r"-digit|digits", asked):
        below.append(Fraction(10) if right < 10 else value + 1)
    length = _LENGTH.search(question)
    digits = (
        (_LENGTHS.index(length[1]) + 1 if length[1] in _LENGTHS else int(length[1]))
        if length
        else 0
    )
    if length and len(str(right)) == digits and len(str(value)) != digits:
        return False
    prime = re.search(r"\bprime\b", asked) and _is_prime(right) and not _is_prime(value)
    return not prime and all(value < limit for limit in below)


def _vary_one(answer: str, found: list[re.Match[str]], rng: random.Random) -> str:
    """A formula with one of its numbers changed, an exponent only where there is nothing else."""
    short = _FRAC_DIGITS.search(answer)
    if short:  # \\frac47: two numbers of one digit each
        place = rng.choice((1, 2))
        digit = rng.choice([sign for sign in "123456789" if sign != short[place]])
        return answer[: short.start(place)] + digit + answer[short.end(place) :]
    free = [one for one in found if not _FIXED.search(answer[: one.start()])] or found
    chosen = rng.choice(free)
    written = _BASE.match(answer, chosen.end())  # as in 1201_3
    base = int(written[1]) if written and int(written[1]) > 1 else 10
    return replace_all(answer, [chosen], [nearby(chosen[0], rng, base)])


def _other_signs(answer: str) -> Iterator[str]:
    """A formula without numbers, negated or with another sign: x + y, x - y."""
    inner = re.search(r"(?<=[\w)}])\s*([-+])\s*(?=[\w(\\])", answer)
    if inner:
        other = "-" if inner[1] == "+" else "+"
        yield answer[: inner.start(1)] + other + answer[inner.end(1) :]
    elif "\\text" not in answer and "," not in answer and "=" not in answer:
        yield answer.removeprefix("-") if answer.startswith("-") else f"-{answer}"


def _value(text: str) -> Fraction | None:
    """The value of a whole number, a decimal or a fraction; None of anything else."""
    plain = re.sub(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}|\\[dt]?frac\s*(\d)\s*(\d)", r"\1\3/\2\4", text)
    plain = re.sub(r"\\?%|\\text\{[^{}]*\}|[$\s,\\!]", "", plain)
    try:
        return Fraction(plain)
    except (ValueError, ZeroDivisionError):
        return None


def _is_prime(value: Fraction) -> bool:
    number = int(value)
    return (
        value == number > 1
        and number < 10**8
        and all(number % part for part in range(2, math.isqrt(number) + 1))
    )
