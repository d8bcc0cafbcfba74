"""Bins and errors of reliability are scikit-learn's and a literal sum's."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from nasalign.adapters.scaling import PlattScaling
from nasalign.evaluation.metrics import Array
from nasalign.evaluation.reliability import reliability, reliability_error, yes_probabilities


def drawn() -> tuple[Array, list[bool]]:
    rng = np.random.default_rng(2)
    odds = rng.normal(-1, 2, 300)
    return odds, (rng.random(300) < 1 / (1 + np.exp(-odds / 2))).tolist()


def test_bins_are_those_of_scikit_learn() -> None:
    odds, labels = drawn()
    probabilities = yes_probabilities(odds)
    share, mean = calibration_curve(labels, probabilities, n_bins=10)
    found = reliability(probabilities, labels)
    assert [one.share for one in found] == pytest.approx(share)
    assert [one.mean for one in found] == pytest.approx(mean)
    assert sum(one.n for one in found) == 300
    for one in found:
        assert one.low <= one.mean <= one.high
        assert one.bounds[0] <= one.share <= one.bounds[1]


def test_the_error_is_the_sum_over_the_bins() -> None:
    odds, labels = drawn()
    probabilities = yes_probabilities(odds)
    bins = reliability(probabilities, labels)
    right = sum(one.n * abs(one.mean - one.share) for one in bins) / 300
    weights = np.ones((2, 300))
    weights[1, 100:] = 0
    whole, part = reliability_error(probabilities, labels, weights)
    assert whole == pytest.approx(right)
    (alone,) = reliability_error(probabilities[:100], labels[:100], np.ones((1, 100)))
    assert part == pytest.approx(alone)
    assert whole > 0.05


def test_the_right_scaling_lowers_the_error() -> None:
    odds, labels = drawn()
    error = [
        reliability_error(yes_probabilities(odds, scaling), labels, np.ones((1, 300)))[0]
        for scaling in (None, PlattScaling(0.5, 0.0))
    ]
    assert error[1] < error[0] / 2


def test_extremes_are_in_the_outer_bins_and_do_not_overflow() -> None:
    probabilities = yes_probabilities(np.array([-2000.0, 2000.0]))
    assert probabilities.tolist() == [0, 1]
    first, last = reliability(probabilities, [False, True])
    assert (first.low, first.high, last.low, last.high) == (0, 0.1, 0.9, 1)
