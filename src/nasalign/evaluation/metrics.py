"""Metrics of yes/no verdicts, with bootstrap intervals over questions.

Every figure is a function of sums over samples, so one function computes it from the sums of the
data and from the sums of each bootstrap sample.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Figure = tuple[float, float, float]
"""A value and the ends of its 95 % interval."""

METRICS = (
    *("accuracy", "precision", "recall", "f1", "ece", "ece_two_words", "nas"),
    *("yes_rate", "invalid_rate", "coverage"),
)
LEAN = ("no_rate", "unsure_rate", "negative_bias")
"""Figures by which scenarios are compared."""
BINS = 10
"""Bins of the expected calibration error (Table 6), of equal width; the upper edge is in the next.

The paper cites He et al. (2022), whose code (``calibrate.py`` of
https://github.com/thu-ml/LM-Calibration) has ten of them, and the softmax over the classes as
confidence."""
_EDGES = np.arange(1, BINS) / BINS
LOW_COVERAGE = 0.3
"""Mean coverage below which a verdict says little about what the model would write.

Of the texts that the embedded model writes, a quarter at most hold a verdict in each wording below,
and 38 to 100 % in each above (``benchmarks/coverage.py``)."""
_COUNTS = 7  # true and false positive, true and false negative, invalid, model NAS, coverage


def confidences(verdict: str, p_positive: float, p_negative: float) -> tuple[float, float]:
    """Return the probability of the word answered: over the vocabulary, and over the two words."""
    said, both = p_positive if verdict == "positive" else p_negative, p_positive + p_negative
    return said, said / both if both else 0.0


def sample_sums(
    verdicts: Sequence[str],
    labels: Sequence[bool],
    said: Sequence[tuple[float, float]],
    nas: Array,
    coverage: Array,
) -> Array:
    """Return what each sample adds to the sums, float64 [N, 7 + 2 * BINS * 3].

    Args:
        verdicts: ``"positive"``, ``"negative"``, ``"unsure"`` or ``"invalid"``, N of them.
        labels: True where the right verdict is positive.
        said: both ``confidences`` of each sample, of which the calibration errors are.
        nas: model NAS of each sample, [N].
        coverage: probability of all answer words together, [N].
    """
    table = np.zeros((len(verdicts), _COUNTS + 2 * BINS * 3))
    bins = table[:, _COUNTS:].reshape(-1, 2, BINS, 3)  # a view: samples, confidence, sum of right
    rows = zip(verdicts, labels, said, strict=True)
    for row, (verdict, label, both) in enumerate(rows):
        table[row, 5:7] = nas[row], coverage[row]
        if verdict in ("invalid", "unsure"):
            table[row, 4] = 1
            continue
        right = (verdict == "positive") == label
        table[row, (0 if right else 1) if verdict == "positive" else (2 if right else 3)] = 1
        for kind, place in enumerate(np.searchsorted(_EDGES, both, side="right")):
            bins[row, kind, place] = 1, both[kind], right
    return table


def from_sums(sums: Array) -> dict[str, Array]:
    """Return the metrics of sums [..., 7 + 2 * BINS * 3], each of shape [...]; 0/0 counts as 0.

    Accuracy counts an invalid answer as wrong; precision, recall, F1 and the calibration errors
    are over valid answers: ``ece`` of the probability that the word answered has in the whole
    vocabulary, ``ece_two_words`` of its share of the two words. "I don't know" is an invalid answer
    here; ``from_lean_sums`` counts it.
    """
    tp, fp, tn, fn, invalid, nas, coverage = np.moveaxis(sums[..., :_COUNTS], -1, 0)
    bins = sums[..., _COUNTS:].reshape(*sums.shape[:-1], 2, BINS, 3)
    gaps = np.abs(bins[..., 1] - bins[..., 2]).sum(axis=-1)
    valid = tp + fp + tn + fn
    total = valid + invalid
    return {
        "accuracy": ratio(tp + tn, total),
        "precision": ratio(tp, tp + fp),
        "recall": ratio(tp, tp + fn),
        "f1": ratio(2 * tp, 2 * tp + fp + fn),
        "ece": ratio(gaps[..., 0], valid),
        "ece_two_words": ratio(gaps[..., 1], valid),
        "nas": ratio(nas, total),
        "yes_rate": ratio(tp + fp, total),
        "invalid_rate": ratio(invalid, total),
        "coverage": ratio(coverage, total),
    }


def gap_of(values: dict[str, Array]) -> Array:
    """Return precision minus recall of the values of ``from_sums``."""
    return values["precision"] - values["recall"]


def lean_sums(verdicts: Sequence[str], labels: Sequence[bool]) -> Array:
    """Return what each sample adds to the sums of ``from_lean_sums``, float64 [N, 6]."""
    said, label = np.asarray(verdicts), np.asarray(labels, dtype=bool)
    no = said == "negative"
    columns = (label, ~label, label & no, ~label & (said == "positive"), no, said == "unsure")
    return np.stack(columns, axis=-1).astype(np.float64)


def from_lean_sums(sums: Array) -> dict[str, Array]:
    """Return the figures ``LEAN`` of sums [..., 6], each of shape [...]; 0/0 counts as 0.

    ``negative_bias`` is the share of No among the examples whose label is Yes, less the share of
    Yes among those whose label is No: above 0, the mistakes lean to No.
    """
    yes, no, denied, affirmed, negative, unsure = np.moveaxis(sums, -1, 0)
    return {
        "no_rate": ratio(negative, yes + no),
        "unsure_rate": ratio(unsure, yes + no),
        "negative_bias": ratio(denied, yes) - ratio(affirmed, no),
    }


def bootstrap_weights(clusters: Sequence[str], samples: int, seed: int) -> Array:
    """Return how often each of N samples is drawn in each bootstrap sample, [S, N].

    Whole clusters (the examples of one question) are drawn, since their verdicts are correlated.
    """
    _, member = np.unique(np.asarray(clusters), return_inverse=True)
    count = int(member.max()) + 1
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=samples)
    return draws[:, member].astype(np.float64)


def interval(values: Array) -> tuple[float, float]:
    """Return the 95 % percentile interval of bootstrap values [S]."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def ratio(part: Array, whole: Array) -> Array:
    """Return part / whole; 0/0 counts as 0."""
    return np.divide(part, whole, out=np.zeros_like(np.asarray(part)), where=whole != 0)


def low_coverage(coverage: float) -> str:
    """Return the warning for a mean coverage below ``LOW_COVERAGE``."""
    return (
        f"Warning: the answer words together have a probability of {coverage:.2f} (coverage), so "
        "the model mostly writes something else first, and these verdicts say little about it. Use "
        "words that it writes (--words), a template that asks for them, or --set decoder=generate."
    )
