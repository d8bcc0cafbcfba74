"""How figures are printed, in the console, the report, the card and the paper's tables."""

import math
from collections.abc import Sequence


def number(value: float | None) -> str:
    """Return a figure as tables show it; "n/a" for None and NaN."""
    if value is None or math.isnan(value):
        return "n/a"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def with_interval(value: float, bounds: Sequence[float]) -> str:
    """Return a figure with its interval, as ``0.500 (0.400 to 0.600)``."""
    return f"{number(value)} ({number(bounds[0])} to {number(bounds[1])})"
