"""Whether two final answers of mathematics have the same value: ``1/2``, ``\\frac12`` and ``0.5``.

LaTeX is rewritten as an arithmetic expression, which ``ast`` parses (Python evaluates nothing) and
mpmath computes, with enough bits for exact integers. Expressions with variables are compared at a
few points. Nothing is expanded and the size of numbers is limited, so that no answer takes more
than a second. Anything else, such as a word, is compared as text.
"""

import ast
import operator
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from mpmath import MPContext

_LONGEST = 200  # characters of a part that is read as an expression
_LONGEST_ANSWER = 2000  # characters of an answer that is read at all
_POWERS = 40  # in an answer; with a fraction as exponent, one takes a millisecond
_BITS = 2000  # before or after the point, at most, of a number that is computed
_CONTEXT = MPContext()
_CONTEXT.prec = _BITS + 100  # 1 is seen beside the largest number, and 1e-15 beside 1
_POINTS = tuple(_CONTEXT.mpf(over) / under for over, under in ((7, 5), (-13, 11), (29, 17)))

_BEFORE = [  # spellings that mean the same, replaced before fractions and roots are read
    (re.compile(r"\\(?:begin|end)\{([a-z]*matrix)\}"), " "),
    (re.compile(r"\\\\|&"), ","),
    (re.compile(r"(?<=\d),\s?\\!\s?(?=\d{3})"), ""),
    (re.compile(r"\\(?:left|right|displaystyle|[,!;: ])|\{,\}\\?!?|\\\$|\$|\^\{?\\circ\}?"), ""),
    (re.compile(r"\\(?:text|mbox|mathrm|textbf)\s*\{\s*(?:and|or)\s*\}"), ","),
    (re.compile(r"(?<=[\d}\])])\s*\\(?:text|mbox|mathrm)\s*\{[^{}]*\}(?:\^\{?\d\}?)?"), ""),  # unit
    (re.compile(r"\\[dt]frac"), r"\\frac"),
    (re.compile(r"\\frac\s*(\d)\s*(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\frac\s*(\d)\s*\{"), r"\\frac{\1}{"),
    (re.compile(r"\\sqrt\s*(\d|[a-z])(?!\w)"), r"\\sqrt{\1}"),
]
_AFTER = [  # and after them
    (re.compile(r"\\(?:cdot|times)"), "*"),
    (re.compile(r"\\pi(?![a-z])"), " pi "),
    (re.compile(r"\\%|%"), "/100"),
    (re.compile(r"(?<=\d),(?=\d{3}(?!\d))"), ""),
    (re.compile(r"(?<![\d.])0+(?=\d)"), ""),
    (re.compile(r"[{]"), "("),
    (re.compile(r"[}]"), ")"),
    (re.compile(r"\^"), "**"),
]
_MIXED = re.compile(r"(?<![\d.])(\d+)\s*\\frac\{(\d+)\}\{(\d+)\}")
_FRACTION = re.compile(r"\\frac\{((?:[^{}]|\{[^{}]*\})*)\}\{((?:[^{}]|\{[^{}]*\})*)\}")
_ROOT = re.compile(r"\\sqrt(?:\[(\d+)\])?\{((?:[^{}]|\{[^{}]*\})*)\}")
# A number or a bracket before a letter or a bracket is multiplied with it.
_PRODUCT = re.compile(r"(?<=[\d)])\s*(?=[a-zA-Z(])|(?<=[a-zA-Z])\s*(?=\()|(?<=[\w)])\s+(?=[\w(])")

_SPACE = re.compile(r"\s+")

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def same_value(left: str, right: str) -> bool:
    """Return whether two answers have the same value, as far as can be told.

    Tuples, lists and intervals are compared part by part, in their order.
    """
    if max(len(left), len(right)) > _LONGEST_ANSWER:
        return _SPACE.sub("", left).casefold() == _SPACE.sub("", right).casefold()
    plain = (_plain(left), _plain(right))
    computed = max(side.count("**") for side in plain) <= _POWERS
    parts = [_split_parts(side) for side in plain]
    if [shape for shape, _ in parts[0]] != [shape for shape, _ in parts[1]]:
        return False
    return all(
        _SPACE.sub("", ours) == _SPACE.sub("", theirs)
        or (computed and _same_expression(ours, theirs))
        for (_, ours), (_, theirs) in zip(*parts, strict=True)
    )


def _same_expression(left: str, right: str) -> bool:
    sides = [side for side in map(_expression, (left, right)) if side is not None]
    if len(sides) < 2:
        return False
    nodes = [node for side in sides for node in ast.walk(side)]
    names = (node.id for node in nodes if isinstance(node, ast.Name) and node.id != "pi")
    symbols = sorted({sign for name in names for sign in name} - {"i"})
    points = _POINTS if symbols else _POINTS[:1]
    for shift, point in enumerate(points):
        place = {symbol: point + shift + index for index, symbol in enumerate(symbols)}
        place |= {"i": _CONTEXT.mpc(0, 1)}
        try:
            values = [_value(side, place) for side in sides]
        except (ValueError, ArithmeticError, MemoryError):
            return False
        if not abs(values[0] - values[1]) < 1e-15:
            return False
    return True


def _plain(answer: str) -> str:
    """An answer in a form in which equal values are mostly written the same."""
    text = answer.strip()
    for pattern, plain in _BEFORE:
        text = pattern.sub(plain, text)
    text = _MIXED.sub(r"(\1+\\frac{\2}{\3})", text)
    for _ in range(4):  # nested to this depth
        text = _FRACTION.sub(r"((\1)/(\2))", text)
        text = _ROOT.sub(lambda found: f"(({found[2]})^(1/({found[1] or 2})))", text)
    for pattern, plain in _AFTER:
        text = pattern.sub(plain, text)
    return _SPACE.sub(" ", text).strip().casefold()


def _split_parts(text: str) -> list[tuple[str, str]]:
    """Parts at the commas and equals signs outside all inner brackets, each with its ends."""
    parts, depth, start, opening = [], 0, 0, ""
    if re.fullmatch(r"([(\[]).*,.*([)\]])", text) and _encloses(text):
        opening, text = text[0] + text[-1], text[1:-1]
    for place, sign in enumerate(text):
        depth += (sign in "([") - (sign in ")]")
        if depth == 0 and sign in ",=":
            parts.append((opening + sign, text[start:place].strip()))
            start = place + 1
    return [*parts, (opening, text[start:].strip())]


def _encloses(text: str) -> bool:
    """Whether the last character closes the first bracket."""
    depth = 0
    for place, sign in enumerate(text):
        depth += (sign in "([") - (sign in ")]")
        if depth == 0:
            return place == len(text) - 1
    return False


@lru_cache(maxsize=4096)
def _expression(text: str) -> ast.expr | None:
    """A part parsed as Python, or None if it is no expression."""
    if len(text) > _LONGEST:
        return None
    try:
        return ast.parse(_PRODUCT.sub("*", text), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr, place: Mapping[str, Any]) -> Any:
    """Compute numbers, one-letter variables, pi, and + - * / **, each step within the size.

    Raises ValueError for anything else and beyond the size, ArithmeticError where it has no value.
    """
    value = _step(node, place)
    if value and not abs(_CONTEXT.mag(value)) <= _BITS:
        raise ValueError("too large or too small")
    return value


def _step(node: ast.expr, place: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return _CONTEXT.mpf(str(node.value))
    if isinstance(node, ast.Name) and node.id == "pi":
        return +_CONTEXT.pi
    if isinstance(node, ast.Name) and node.id.isalpha() and len(node.id) <= 3:
        return _CONTEXT.fprod(place[sign] for sign in node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _value(node.operand, place)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return _BINARY[type(node.op)](_value(node.left, place), _value(node.right, place))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        base, power = _value(node.left, place), _value(node.right, place)
        if base and abs(power) * max(1, abs(_CONTEXT.mag(base))) > _BITS:
            raise ValueError("too large a power")
        return base**power
    raise ValueError("not an expression")
