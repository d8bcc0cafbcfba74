"""At the break-even both models are equally accurate, and on its sides the right one is better."""

import numpy as np
import pytest

from nasalign.evaluation.break_even import RightShares, break_even, by_threshold


@pytest.mark.parametrize(
    ("before", "after", "where", "share"),
    [
        # By hand: 0.6 gained on right answers and 0.4 lost on wrong ones are even at 0.4 / 1.0.
        ((0.0, 1.0), (0.6, 0.6), "above", 0.4),
        ((1.0, 0.1), (0.8, 0.4), "below", 0.6),  # a lean to Yes that was corrected
        ((0.1, 0.8), (0.5, 0.9), "always", None),
        ((0.1, 0.8), (0.5, 0.8), "always", None),
        ((0.5, 0.9), (0.5, 0.6), "never", None),
        ((0.5, 0.9), (0.5, 0.9), "same", None),
    ],
)
def test_by_hand(before: tuple, after: tuple, where: str, share: float | None) -> None:
    one, other = RightShares(*before), RightShares(*after)
    found = break_even(one, other)
    assert found.where == where
    assert found.share == (share and pytest.approx(share))
    if found.share is not None:
        assert one.accuracy(found.share) == pytest.approx(other.accuracy(found.share))
        above = other.accuracy(found.share + 0.1) - one.accuracy(found.share + 0.1)
        assert (above > 0) == (where == "above")


def test_shares_are_of_all_examples_of_a_label() -> None:
    verdicts = ["positive", "negative", "invalid", "positive", "negative"]
    labels = [True, True, True, False, False]
    assert RightShares.of(verdicts, labels) == (pytest.approx(1 / 3), 0.5)
    assert RightShares.of(verdicts[:3], labels[:3]) is None
    shares = RightShares.of(verdicts, labels)
    assert shares
    assert shares.accuracy(3 / 5) == pytest.approx(2 / 5)


def test_a_threshold_is_on_the_log_odds() -> None:
    said = by_threshold(np.array([-2.0, -1.0, 0.5]), -1.5)
    assert said == ["negative", "positive", "positive"]
