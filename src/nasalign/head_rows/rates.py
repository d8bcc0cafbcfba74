"""The learning rate of a change: falling rates, each tried for a part of all steps.

What is the right rate differs between models (docs/study.md). A high one is tried, then a lower
one, and so on as long as that lowers the loss; the change of the best is trained on. This is
successive halving (Jamieson and Talwalkar, 2016, "Non-stochastic best arm identification and
hyperparameter optimization") of one round, that ends where the loss has its least. The loss is that
of the second half of the steps: each is of samples that were not trained on before, so that it is
one on new samples (Blum, Kalai and Langford, 1999, "Beating the hold-out: bounds for k-fold and
progressive cross-validation").
"""

import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Protocol, TypeVar

PART = 8
"""A rate is tried for one of so many parts of all steps."""


class Attempt(Protocol):
    """A change that was trained for some steps at one rate, and may be trained on."""

    @property
    def loss(self) -> float:
        """The loss by which it is chosen (``late_loss``)."""


A = TypeVar("A", bound=Attempt)


def steps_tried(steps: int) -> int:
    """Return for how many of all steps a rate is tried."""
    return max(1, steps // PART)


def late_loss(losses: Sequence[float]) -> float:
    """Return the mean of the second half of the losses of steps; infinity if it is not finite."""
    loss = fmean(losses[len(losses) // 2 :])
    return loss if math.isfinite(loss) else math.inf


def best_attempt(rates: Sequence[float], attempt: Callable[[float], A]) -> A:
    """Try falling rates until one is no better than that before, and return the best attempt.

    As long as all have diverged, lower ones are tried.
    """
    best = attempt(rates[0])
    for rate in rates[1:]:
        found = attempt(rate)
        if found.loss >= best.loss < math.inf:
            break
        best = found
    return best
