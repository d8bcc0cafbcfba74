"""What a correction gains on right answers and costs on wrong ones, and where both are even.

Correcting a lean trades one kind of mistake for the other. How much of each there is depends on the
share of questions for which Yes is right, which in use may differ from that of the test.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from nasalign.evaluation.metrics import Array


class RightShares(NamedTuple):
    """The share of right verdicts among examples of either label; an invalid one is wrong."""

    yes: float
    no: float

    @classmethod
    def of(cls, verdicts: Sequence[str], labels: Sequence[bool]) -> "RightShares | None":
        """Return both shares, or None where all examples are of one label."""
        said = list(zip(verdicts, labels, strict=True))
        right, wrong = labels.count(True), labels.count(False)
        if not right or not wrong:
            return None
        return cls(said.count(("positive", True)) / right, said.count(("negative", False)) / wrong)

    def accuracy(self, share: float) -> float:
        """Return the accuracy where Yes is right for such a share of the questions."""
        return share * self.yes + (1 - share) * self.no


class BreakEven(NamedTuple):
    """For which shares of Yes the corrected model is more accurate than the untouched one.

    ``where`` says on which side of ``share`` that is. ``always`` and ``never`` have no share, nor
    has ``same``, where both models are equally accurate at every share.
    """

    where: Literal["above", "below", "always", "never", "same"]
    share: float | None = None


def break_even(before: RightShares, after: RightShares) -> BreakEven:
    """Return the share of Yes at which both models are equally accurate.

    The gain in accuracy at a share s is s * gained - (1 - s) * lost, with what was gained on right
    answers and lost on wrong ones, so that it is 0 at s = lost / (gained + lost).
    """
    gained, lost = after.yes - before.yes, before.no - after.no
    if gained == lost == 0:
        return BreakEven("same")
    if gained >= 0 and lost <= 0:
        return BreakEven("always")
    if gained <= 0 and lost >= 0:
        return BreakEven("never")
    return BreakEven("above" if gained > 0 else "below", lost / (gained + lost))


def by_threshold(odds: Array, threshold: float) -> list[str]:
    """Return the verdicts of a threshold on the log odds of the positive word, [N]."""
    return np.where(odds > threshold, "positive", "negative").tolist()
