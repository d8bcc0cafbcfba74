"""Platt scaling: probabilities from a slope and an offset of the log odds (Platt, 1999).

J. Platt, "Probabilistic outputs for support vector machines and comparisons to regularized
likelihood methods", 1999. A threshold moves the log odds; this also stretches them, so that
verdict and probability come from the same two numbers.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from nasalign.adapters.scaling import PlattScaling


def fit_platt(odds: Tensor, labels: Sequence[bool]) -> PlattScaling:
    """Fit slope and offset by logistic regression without a penalty.

    The targets are Platt's, ``(n + 1) / (n + 2)`` for the n positive examples and ``1 / (m + 2)``
    for the m negative ones, so that the slope stays finite where a threshold separates them.

    Args:
        odds: log odds of N examples, [N], finite.
        labels: their right verdicts, True for the positive word.

    Returns:
        The fit; its slope is 0 where all log odds are equal.
    """
    from sklearn.linear_model import LogisticRegression  # takes a second

    values = odds.double().cpu().numpy()
    label = np.asarray(labels, dtype=bool)
    positive, negative = int(label.sum()), int((~label).sum())
    target = np.where(label, (positive + 1) / (positive + 2), 1 / (negative + 2))
    mean, spread = float(values.mean()), float(values.std()) or 1.0
    scaled = ((values - mean) / spread)[:, None]  # only for the solver: there is no penalty
    # A sample with a target between 0 and 1 is one of either label, with such weights.
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        np.concatenate([scaled, scaled]),
        np.repeat([True, False], len(values)),
        sample_weight=np.concatenate([target, 1 - target]),
    )
    slope = float(model.coef_[0, 0]) / spread
    return PlattScaling(slope, float(model.intercept_[0]) - slope * mean)
