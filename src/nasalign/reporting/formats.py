"""How figures are named and printed: in the console, the report, the card, the paper's tables."""

import math
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

from nasalign.evaluation.metrics import OF_YES

METRIC_NAMES = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "specificity": "specificity",
    "f1": "F1",
    "auc": "AUC",
    "yes_rate": "share of Yes",
    "no_rate": "share of No",
    "unsure_rate": "share of I don't know",
    "invalid_rate": "share invalid",
    "negative_bias": "negative bias",
    "coverage": "coverage",
    "ece": "calibration error",
    "ece_two_words": "calibration error over the two words",
    "nas": "model NAS",
    "gap": "precision minus recall",
}
"""What a reader sees of each metric, by its name in ``metrics.json``."""
SPACE = "\N{NO-BREAK SPACE}"


def metric_name(name: str, words: tuple[str, str] = ("Yes", "No")) -> str:
    """Return a metric's name with the answer words of the run."""
    shown = METRIC_NAMES[name]
    return shown.replace("Yes", words[0]).replace("of No", f"of {words[1]}")


def rounded(value: float, digits: int = 3, *, sign: bool = False) -> str:
    """Return a number with so many decimals, halves away from zero: 0.0075 is 0.008.

    Shares of a few hundred answers often end on a half, which binary floating point would round up
    or down by chance.
    """
    if not math.isfinite(value):
        return "n/a" if math.isnan(value) else str(value)
    # What arithmetic has left behind the ninth decimal is no part of the figure.
    shown = Decimal(repr(round(float(value), 9))).quantize(
        Decimal(1).scaleb(-digits), ROUND_HALF_UP
    )
    return format(abs(shown) if shown == 0 else shown, f"{'+' if sign else ''},f")


def number(value: float | str | None) -> str:
    """Return a figure as tables show it; "n/a" for None and NaN."""
    if value is None or isinstance(value, str):  # JSON has no infinity, so that is a text
        return value or "n/a"
    if isinstance(value, int):
        return f"{value:,}"
    return rounded(value, 3 if abs(value) < 10 else 1)


def signed(value: float) -> str:
    """Return a change as tables show it, with its sign."""
    return rounded(value, 3 if abs(value) < 10 else 1, sign=True)


def with_interval(value: float | None, bounds: Sequence[float | None]) -> str:
    """Return a figure with its interval, if it has one, as ``0.500 (0.400 to 0.600)``."""
    ends = between(bounds)
    return f"{number(value)} ({ends})" if ends else number(value)


def between(bounds: Sequence[float | None], *, sign: bool = False) -> str:
    """Return an interval as ``0.400 to 0.600``; an empty text where there is none."""
    ends = [end for end in bounds if end is not None and not math.isnan(end)]
    shown = [signed(end) if sign else number(end) for end in ends]
    return " to ".join(shown) if len(shown) == 2 else ""


def undefined(name: str, words: tuple[str, str] = ("Yes", "No")) -> str:
    """Return what stands in the place of a figure that is 0/0."""
    if name in OF_YES:
        return f"- (never said {words[0]})"
    sides = {"recall": "right", "specificity": "wrong"}
    return f"- (no {sides[name]} answers)" if name in sides else "-"


def value_or_why(name: str, value: float | None, words: tuple[str, str] = ("Yes", "No")) -> str:
    """Return a figure, or why there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return undefined(name, words)
    return number(value)


def short_value(value: object) -> str:
    """Return a value of the run's facts; a float with the six digits that a reader can use."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def worded(name: str) -> str:
    """Return a key of JSON as words: ``side_effects/before`` is "side effects, before"."""
    return name.replace("/", ", ").replace("_", " ").replace(" nas ", " NAS ")


def with_count(count: int, thing: str) -> str:
    """Return a count with its thing: "1 head", "2 heads"."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def percent(share: float, digits: int = 0) -> str:
    """Return a share in percent; 100 % and 0 % are said only where they are true."""
    shown, least = rounded(100 * share, digits), 10.0**-digits
    if float(shown) == 100 and share < 1:
        return f"over {rounded(100 - least, digits)}{SPACE}%"
    if float(shown) == 0 and share > 0:
        return f"under {rounded(least, digits)}{SPACE}%"
    return f"{shown}{SPACE}%"
