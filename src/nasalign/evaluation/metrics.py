"""Metrics of yes/no verdicts, with bootstrap intervals over questions.

Every figure is a function of sums over samples, so one function computes it from the sums of the
data and from the sums of each bootstrap sample.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Figure = tuple[float, float, float]
"""A value and the ends of its 95 % interval; NaN where there is none (``figures_of``)."""

METRICS = (
    *("accuracy", "precision", "recall", "specificity", "f1", "ece", "ece_two_words", "nas"),
    *("yes_rate", "invalid_rate", "coverage"),
)
OF_YES = ("precision", "gap")
"""Figures that are shares of the answers Yes; a model that never says Yes has none."""
FEW_YES = 10
"""Answers Yes below which figures ``OF_YES`` have no interval, and no change."""
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

    Of a bootstrap sample 0/0 must be a number; ``figures_of`` tells where there is none.

    Accuracy counts an invalid answer as wrong; precision, recall, F1 and the calibration errors
    are over valid answers: ``ece`` of the probability that the word answered has in the whole
    vocabulary, ``ece_two_words`` of its share of the two words. "I don't know" is an invalid answer
    here; ``from_lean_sums`` counts it. ``specificity`` is the share of wrong answers refused, as
    ``recall`` is that of right answers affirmed; ``gap`` is precision minus recall.
    """
    tp, fp, tn, fn, invalid, nas, coverage = np.moveaxis(sums[..., :_COUNTS], -1, 0)
    bins = sums[..., _COUNTS:].reshape(*sums.shape[:-1], 2, BINS, 3)
    gaps = np.abs(bins[..., 1] - bins[..., 2]).sum(axis=-1)
    valid = tp + fp + tn + fn
    total = valid + invalid
    precision, recall = ratio(tp, tp + fp), ratio(tp, tp + fn)
    return {
        "accuracy": ratio(tp + tn, total),
        "precision": precision,
        "recall": recall,
        "gap": precision - recall,
        "specificity": ratio(tn, tn + fp),
        "f1": ratio(2 * tp, 2 * tp + fp + fn),
        "ece": ratio(gaps[..., 0], valid),
        "ece_two_words": ratio(gaps[..., 1], valid),
        "nas": ratio(nas, total),
        "yes_rate": ratio(tp + fp, total),
        "invalid_rate": ratio(invalid, total),
        "coverage": ratio(coverage, total),
    }


def figures_of(sums: Array, weights: Array) -> dict[str, Figure]:
    """Return the metrics with their intervals, and ``gap``, precision minus recall.

    What is 0/0 is NaN: precision and gap without an answer Yes, recall and gap without a right
    answer, specificity without a wrong one. Of fewer than ``FEW_YES`` answers Yes, precision and
    gap have a value and no interval.

    Args:
        sums: of N samples (``sample_sums``), [N, columns].
        weights: of bootstrap samples, [S, N].
    """
    whole = sums.sum(axis=0)
    points, spreads, (none, vague) = from_sums(whole), from_sums(weights @ sums), _undefined(whole)
    found = {}
    for name, value in points.items():
        ends = (math.nan, math.nan) if name in vague else interval(spreads[name])
        found[name] = (math.nan if name in none else float(value), *ends)
    return found


def paired_changes(before: Array, after: Array, weights: Array) -> dict[str, Figure]:
    """Return each metric's change, as ``figures_of`` of sums before and after [N, columns].

    The same draws on both sides pair the interval. Where a side has no interval, the change is NaN.
    """
    start, end = (from_sums(part.sum(axis=0)) for part in (before, after))
    old, new = (from_sums(weights @ part) for part in (before, after))
    vague = {name for part in (before, after) for name in _undefined(part.sum(axis=0))[1]}
    return {
        name: (math.nan, math.nan, math.nan)
        if name in vague
        else (float(end[name] - value), *interval(new[name] - old[name]))
        for name, value in start.items()
    }


def _undefined(sums: Array) -> tuple[set[str], set[str]]:
    """Return the figures of sums that are 0/0, and those that have no interval."""
    tp, fp, tn, fn = (float(count) for count in sums[:4])
    yes, right, wrong = tp + fp, tp + fn, tn + fp
    parts = {"precision": yes, "recall": right, "specificity": wrong, "gap": yes * right}
    none = {name for name, count in parts.items() if not count}
    return none, none | (set(OF_YES) if yes < FEW_YES else set())


def or_none(figure: Figure) -> tuple[float | None, float | None, float | None]:
    """Return a figure for a JSON file, with None for NaN."""
    value, low, high = (None if math.isnan(part) else part for part in figure)
    return value, low, high


def as_figure(value: float | None, bounds: Sequence[float | None]) -> Figure:
    """Return a figure of ``metrics.json``, with NaN for what is undefined there."""
    value, low, high = (math.nan if part is None else part for part in (value, *bounds))
    return value, low, high


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
