"""Falling rates are tried until one is no better."""

import math
from types import SimpleNamespace

import pytest

from nasalign.head_rows.rates import best_attempt, late_loss


@pytest.mark.parametrize(
    ("losses", "best", "tried"),
    [
        ([0.5, 0.6, 0.1], 0, 2),
        ([0.5, 0.4, 0.4, 0.1], 1, 3),
        ([math.inf, math.inf, 0.7, 0.8], 2, 4),
        ([0.5, math.inf, 0.1], 0, 2),
        ([0.4, 0.3, 0.2, 0.1], 3, 4),
        ([math.inf, math.inf], 1, 2),
    ],
)
def test_the_first_rate_that_is_no_better_ends_the_search(
    losses: list[float], best: int, tried: int
) -> None:
    asked: list[float] = []

    def attempt(rate: float) -> SimpleNamespace:
        asked.append(rate)
        return SimpleNamespace(rate=rate, loss=losses[int(rate)])

    found = best_attempt(range(len(losses)), attempt)
    assert found.rate == best
    assert asked == list(range(tried))


def test_the_loss_is_that_of_the_later_steps() -> None:
    assert late_loss([9.0, 9.0, 1.0, 2.0]) == 1.5
    assert late_loss([9.0, 1.0, 3.0]) == 2.0
    assert late_loss([4.0]) == 4.0
    assert late_loss([1.0, math.nan]) == math.inf
