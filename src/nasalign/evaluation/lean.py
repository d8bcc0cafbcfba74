"""Which way verdicts lean, as scenarios are compared by it.

As in ``metrics``, every figure is a function of sums over samples. The sums stand apart from those
of the metrics.
"""

from collections.abc import Sequence

import numpy as np

from nasalign.evaluation.metrics import Array, ratio

LEAN = ("no_rate", "unsure_rate", "negative_bias")


def lean_sums(verdicts: Sequence[str], labels: Sequence[bool]) -> Array:
    """Returns what each sample adds to the sums, float64 [N, 6].

    Args:
        verdicts: ``"positive"``, ``"negative"``, ``"unsure"`` or ``"invalid"``, N of them.
        labels: True where the right verdict is positive.
    """
    said, label = np.asarray(verdicts), np.asarray(labels, dtype=bool)
    columns = (
        label,
        ~label,
        label & (said == "negative"),
        ~label & (said == "positive"),
        said == "negative",
        said == "unsure",
    )
    return np.stack(columns, axis=-1).astype(np.float64)


def from_lean_sums(sums: Array) -> dict[str, Array]:
    """Returns the figures of sums [..., 6], each of shape [...]; 0/0 counts as 0.

    ``negative_bias`` is the share of No among the examples whose label is Yes, less the share of
    Yes among those whose label is No: above 0, the mistakes lean to No.
    """
    yes, no, denied, affirmed, negative, unsure = np.moveaxis(sums, -1, 0)
    return {
        "no_rate": ratio(negative, yes + no),
        "unsure_rate": ratio(unsure, yes + no),
        "negative_bias": ratio(denied, yes) - ratio(affirmed, no),
    }
