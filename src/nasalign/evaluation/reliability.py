"""Reliability: how often Yes is right among answers to which a model gives it some probability.

The bins are of the probability of the positive word against the negative one, as in the reliability
diagrams of DeGroot and Fienberg (1983) and Guo et al. (2017), and not of the confidence of the word
that was answered: a calibration may move the verdict itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasalign.adapters.scaling import Calibration, PlattScaling
from nasalign.evaluation.evaluation import Evaluation
from nasalign.evaluation.metrics import BINS, Array, bootstrap_weights, interval
from nasalign.evaluation.ranking import log_odds
from nasalign.nasa.direction import wilson


@dataclass(frozen=True)
class Bin:
    """The examples whose probability of Yes is in one of ten ranges of equal width.

    Attributes:
        low: the range begins here.
        high: it ends before this; the last one includes 1.
        n: number of examples, at least one.
        mean: mean probability of Yes of these.
        share: share of them whose right verdict is Yes.
        bounds: 95 % interval of that share, by Wilson.
    """

    low: float
    high: float
    n: int
    mean: float
    share: float
    bounds: tuple[float, float]


def yes_probabilities(odds: Array, scaling: PlattScaling | None = None) -> Array:
    """Return P(Yes) against No of log odds [N], calibrated if a scaling is given."""
    values = scaling.slope * odds + scaling.offset if scaling else odds
    # Not 1 / (1 + exp(-x)), which overflows at large negative log odds.
    return np.exp(-np.logaddexp(0, -values))


def reliability(probabilities: Array, labels: Sequence[bool]) -> list[Bin]:
    """Return the bins that hold an example, in ascending order.

    Args:
        probabilities: of Yes, [N].
        labels: True where the right verdict is Yes, N of them.
    """
    place, label = _places(probabilities), np.asarray(labels, dtype=bool)
    found = []
    for number in np.unique(place):
        inside = place == number
        n, right = int(inside.sum()), int(label[inside].sum())
        mean = float(probabilities[inside].mean())
        low, high = number / BINS, (number + 1) / BINS
        found.append(Bin(low, high, n, mean, right / n, wilson(right, n)))
    return found


def reliability_error(probabilities: Array, labels: Sequence[bool], weights: Array) -> Array:
    """Return the expected calibration error of P(Yes) for each row of weights, [S].

    It is the mean over the bins of the difference between the mean probability and the share of
    right answers, each bin weighted by its examples.

    Args:
        probabilities: of Yes, [N].
        labels: True where the right verdict is Yes, N of them.
        weights: how often each example counts, [S, N].
    """
    members = np.eye(BINS)[_places(probabilities)]  # [N, BINS]
    gaps = (probabilities - np.asarray(labels, dtype=np.float64))[:, None] * members
    return np.asarray(np.abs(weights @ gaps).sum(axis=1) / weights.sum(axis=1))


def calibration_facts(
    calibration: Calibration,
    before: dict[str, Evaluation],
    after: dict[str, Evaluation],
    bootstrap_samples: int,
    seed: int,
) -> dict[str, Any]:
    """Return what ``metrics.json`` says of a calibration.

    Args:
        calibration: fitted on held-back examples.
        before: evaluations of the untouched model by data set, none of whose examples it was
            fitted on.
        after: the same of the aligned model.
        bootstrap_samples: for the intervals, as of ``Evaluation.metrics``.
        seed: of the bootstrap.

    Returns:
        ``data`` and ``n`` of the fit, and by side (``before``, ``after``) its ``slope`` and
        ``offset``, and for each data set the calibration error of P(Yes) as it is (``error``) and
        calibrated (``calibrated_error``), each with its 95 % interval. None for a side without a
        fit.
    """
    facts: dict[str, Any] = {"data": calibration.data, "n": calibration.n}
    for side, scaling, sets in (
        ("before", calibration.before, before),
        ("after", calibration.after, after),
    ):
        facts[side] = scaling and {
            "slope": scaling.slope,
            "offset": scaling.offset,
            "n": calibration.n,
            "datasets": {
                name: _errors(one, scaling, bootstrap_samples, seed) for name, one in sets.items()
            },
        }
    return facts


def _errors(
    evaluation: Evaluation, scaling: PlattScaling, samples: int, seed: int
) -> dict[str, Any]:
    """The calibration error without and with a scaling, with their intervals."""
    scores, labels = evaluation.scores, evaluation.labels
    odds = log_odds(scores.p_positive, scores.p_negative)
    weights = bootstrap_weights(evaluation.clusters, samples, seed)
    facts: dict[str, Any] = {}
    for name, own in (("error", None), ("calibrated_error", scaling)):
        probabilities = yes_probabilities(odds, own)
        (point,) = reliability_error(probabilities, labels, np.ones((1, len(labels))))
        facts[name] = float(point)
        facts[f"{name}_interval"] = interval(reliability_error(probabilities, labels, weights))
    return facts


def _places(probabilities: Array) -> Array:
    """The bin of each probability [N], from 0; the upper edge is in the next bin, but for 1."""
    return np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)
