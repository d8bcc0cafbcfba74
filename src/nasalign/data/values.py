"""Do two final answers of mathematics have the same value? ``1/2``, ``\\frac12`` and ``0.5`` do.

LaTeX is rewritten as an arithmetic expression, that is parsed by ``ast`` (nothing is evaluated by
Python), and sympy computes with it. Expressions with variables are compared at a few points. What
cannot be read so, such as a word, is compared as text.
"""

import ast
import operator
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import sympy

_LONGEST = 200
"""Signs of an answer that is read as an expression."""
_BITS = 4000
"""Size at most of a power that is computed."""
_POINTS = (sympy.Rational(7, 5), sympy.Rational(-13, 11), sympy.Rational(29, 17))

_BEFORE = [  # what is written otherwise but means the same, before fractions and roots are read
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
_AFTER = [  # and after that
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
    """Says whether two answers have the same value, as far as that can be told.

    Tuples, lists and intervals are compared part by part, in their order.
    """
    parts = [_split_parts(_plain(side)) for side in (left, right)]
    if [shape for shape, _ in parts[0]] != [shape for shape, _ in parts[1]]:
        return False
    return all(
        _SPACE.sub("", ours) == _SPACE.sub("", theirs) or _same_expression(ours, theirs)
        for (_, ours), (_, theirs) in zip(*parts, strict=True)
    )


def _same_expression(left: str, right: str) -> bool:
    values = (_expression(left), _expression(right))
    if values[0] is None or values[1] is None:
        return False
    difference = values[0] - values[1]
    symbols = sorted(difference.free_symbols, key=str)
    points = _POINTS if symbols else _POINTS[:1]
    for shift, point in enumerate(points):
        place = {symbol: point + shift + index for index, symbol in enumerate(symbols)}
        there = difference.subs(place).evalf(30)
        if not there.is_number or not abs(there) < sympy.Float("1e-15"):
            return False
    return True


def _plain(answer: str) -> str:
    """An answer in a form in which equal things are mostly written the same."""
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
    """Parts at the commas and signs that stand outside all inner brackets, each with its ends."""
    parts, depth, start, opening = [], 0, 0, ""
    whole = re.fullmatch(r"([(\[]).*,.*([)\]])", text) is not None and _encloses(text)
    if whole:
        opening, text = text[0] + text[-1], text[1:-1]
    for place, sign in enumerate(text):
        depth += (sign in "([") - (sign in ")]")
        if depth == 0 and sign in ",=":
            parts.append((opening + sign, text[start:place].strip()))
            start = place + 1
    return [*parts, (opening, text[start:].strip())]


def _encloses(text: str) -> bool:
    """Says whether the first bracket is closed by the last sign."""
    depth = 0
    for place, sign in enumerate(text):
        depth += (sign in "([") - (sign in ")]")
        if depth == 0:
            return place == len(text) - 1
    return False


@lru_cache(maxsize=4096)
def _expression(text: str) -> sympy.Expr | None:
    """A part as a sympy expression, or None if it is not one."""
    if len(text) > _LONGEST:
        return None
    try:
        tree = ast.parse(_PRODUCT.sub("*", text), mode="eval")
        value = _build(tree.body)
    except (SyntaxError, ValueError, RecursionError, ZeroDivisionError, MemoryError):
        return None
    return value if value.is_finite is not False else None


def _build(node: ast.expr) -> sympy.Expr:
    """Builds what ``ast`` has read: numbers, one-letter variables, pi, and + - * / **."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return sympy.Rational(str(node.value))
    if isinstance(node, ast.Name) and node.id == "pi":
        return sympy.pi
    if isinstance(node, ast.Name) and node.id.isalpha() and len(node.id) <= 3:
        return sympy.Mul(*(sympy.I if sign == "i" else sympy.Symbol(sign) for sign in node.id))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _build(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return _BINARY[type(node.op)](_build(node.left), _build(node.right))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        base, power = _build(node.left), _build(node.right)
        if power.is_number and abs(power) * _bits(base) > _BITS:
            raise ValueError("too large a power")
        return base**power
    raise ValueError("not an expression")


def _bits(value: sympy.Expr) -> int:
    """Binary digits of a number's numerator and denominator; 8 for what is no rational number."""
    return value.p.bit_length() + value.q.bit_length() if value.is_Rational else 8
