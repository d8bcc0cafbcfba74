"""How well odds tell examples whose right verdict is positive from the others."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from nasalign.evaluation.metrics import Array

_TINY = 1e-30  # below what float32 holds of a probability that matters


def log_odds(p_positive: Tensor, p_negative: Tensor) -> Array:
    """Return log P(positive word) - log P(negative word), [N] float64."""
    odds = (p_positive.double() + _TINY).log() - (p_negative.double() + _TINY).log()
    return np.asarray(odds.numpy(), dtype=np.float64)


def auc(odds: Array, labels: Sequence[bool], weights: Array) -> Array:
    """Return the area under the receiver operating characteristic curve for each row of weights.

    It is the share of pairs of a positive and a negative example of which the positive one has
    the higher odds; a tie counts half.

    Args:
        odds: of N examples, [N].
        labels: True where the right verdict is positive, N of them.
        weights: how often each example counts, [S, N].

    Returns:
        [S]; NaN where there is no such pair.
    """
    order = np.argsort(odds, kind="stable")
    ranked = odds[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))  # of G equal odds
    positive = np.asarray(labels, dtype=bool)[order]
    drawn = weights[:, order]
    ups = np.add.reduceat(drawn * positive, starts, axis=1)  # [S, G]
    downs = np.add.reduceat(drawn * ~positive, starts, axis=1)
    below = np.cumsum(downs, axis=1) - downs
    won = (ups * (below + downs / 2)).sum(axis=1)
    pairs = ups.sum(axis=1) * downs.sum(axis=1)
    return np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
