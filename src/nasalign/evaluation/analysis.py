"""What NAS tells about the bias (Section 3.2.2, Appendix B): Tables 1, 2 and 9."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.multitest import multipletests

from nasalign.evaluation.metrics import Array

Interval = tuple[float, float]
LEVEL = 0.95
"""Confidence of every interval."""
_NONE = (math.nan, math.nan)


@dataclass(frozen=True)
class Correlation:
    """How model NAS and negative confidence go together (Table 1).

    Attributes:
        n: number of samples.
        pearson: Pearson's coefficient, -1 to 1; not a number where either side is constant.
        pearson_p: two-sided p-value of no correlation.
        pearson_interval: 95 %, by Fisher's z.
        spearman: Spearman's rank coefficient.
        spearman_p: two-sided p-value.
        spearman_interval: 95 %, by Fisher's z with the standard error of Bonett and Wright.
    """

    n: int
    pearson: float
    pearson_p: float
    pearson_interval: Interval
    spearman: float
    spearman_p: float
    spearman_interval: Interval


def correlation(nas: Sequence[float], negative_confidence: Sequence[float]) -> Correlation:
    """Return the correlation of model NAS and negative confidence of N samples (Table 1).

    Raises:
        ValueError: the lengths differ.
    """
    x, y = _column(nas), _column(negative_confidence)
    n = _same_length(x, y)
    if n < 3 or _constant(x) or _constant(y):
        return Correlation(n, math.nan, math.nan, _NONE, math.nan, math.nan, _NONE)
    linear, ranked = stats.pearsonr(x, y), stats.spearmanr(x, y)
    r, rho = float(linear.statistic), float(ranked.statistic)
    return Correlation(
        n=n,
        pearson=r,
        pearson_p=float(linear.pvalue),
        pearson_interval=_pair(linear.confidence_interval(LEVEL)) if n > 3 else _NONE,
        spearman=rho,
        spearman_p=float(ranked.pvalue),
        spearman_interval=_bonett_wright(rho, n),
    )


@dataclass(frozen=True)
class Regression:
    """Model NAS by negative confidence where positive confidence is held (Table 9).

    Attributes:
        n: number of samples.
        coefficient: of the negative confidence; not a number where the samples do not determine it.
        interval: 95 %.
        p: two-sided p-value, corrected for ``comparisons`` by Bonferroni.
        comparisons: number of regressions that are reported together, such as one for each model.
        r_squared: share of the variance of model NAS that both confidences explain.
    """

    n: int
    coefficient: float
    interval: Interval
    p: float
    comparisons: int
    r_squared: float


def regression(
    nas: Sequence[float],
    negative_confidence: Sequence[float],
    positive_confidence: Sequence[float],
    comparisons: int,
) -> Regression:
    """Regress model NAS on negative and positive confidence of N samples (Table 9).

    Raises:
        ValueError: the lengths differ, or ``comparisons`` is below 1.
    """
    if comparisons < 1:
        raise ValueError(f"{comparisons} comparisons cannot be corrected for")
    y, negative, positive = map(_column, (nas, negative_confidence, positive_confidence))
    n = _same_length(y, negative, positive)
    design = np.column_stack([np.ones(n), negative, positive])
    if n < 4 or _constant(y) or np.linalg.matrix_rank(design) < 3:
        return Regression(n, math.nan, _NONE, math.nan, comparisons, math.nan)
    fit = sm.OLS(y, design).fit()
    corrected = multipletests([fit.pvalues[1]] * comparisons, method="bonferroni")[1]
    return Regression(
        n=n,
        coefficient=float(fit.params[1]),
        interval=_pair(fit.conf_int(1 - LEVEL)[1]),
        p=float(corrected[0]),
        comparisons=comparisons,
        r_squared=float(fit.rsquared),
    )


@dataclass(frozen=True)
class PairOverlap:
    """What two domains' lists of heads share; ``share`` is None where a list is empty."""

    first: str
    second: str
    shared: int
    share: float | None


@dataclass(frozen=True)
class Overlap:
    """What the lists of negative heads of several domains share (Table 2).

    Attributes:
        sizes: heads of each domain.
        empty: domains without a head.
        shared: heads in all of the lists.
        common: the same as a proportion of the shortest list, 0 to 1; None where that is empty.
        pairs: the same of every two domains.
    """

    sizes: dict[str, int]
    empty: list[str]
    shared: int
    common: float | None
    pairs: list[PairOverlap]


def head_overlap(lists: Mapping[str, Sequence[tuple[int, int]]]) -> Overlap:
    """Return what the negative heads (layer, head) of several domains share (Table 2).

    Raises:
        ValueError: there are fewer than two domains.
    """
    if len(lists) < 2:
        raise ValueError(f"heads of {list(lists)} cannot overlap; two domains are needed")
    heads = {name: set(chosen) for name, chosen in lists.items()}
    shared = len(set.intersection(*heads.values()))
    pairs = []
    for (first, mine), (second, other) in combinations(heads.items(), 2):
        both = len(mine & other)
        pairs.append(PairOverlap(first, second, both, _share(both, mine, other)))
    return Overlap(
        sizes={name: len(chosen) for name, chosen in heads.items()},
        empty=[name for name, chosen in heads.items() if not chosen],
        shared=shared,
        common=_share(shared, *heads.values()),
        pairs=pairs,
    )


def _share(shared: int, *lists: set[tuple[int, int]]) -> float | None:
    shortest = min(map(len, lists))
    return shared / shortest if shortest else None


def _bonett_wright(rho: float, n: int) -> Interval:
    """The 95 % interval of Spearman's coefficient: tanh(atanh(rho) -+ 1.96 s) of N samples.

    s is sqrt((1 + rho^2 / 2) / (N - 3)) (Bonett and Wright, 2000).
    """
    if n <= 3:
        return _NONE
    if abs(rho) >= 1:
        return (rho, rho)
    reach = stats.norm.ppf((1 + LEVEL) / 2) * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return (math.tanh(math.atanh(rho) - reach), math.tanh(math.atanh(rho) + reach))


def _column(values: Sequence[float]) -> Array:
    return np.asarray(values, dtype=np.float64)


def _same_length(*columns: Array) -> int:
    lengths = [len(column) for column in columns]
    if len(set(lengths)) != 1:
        raise ValueError(f"the columns have {lengths} samples, not the same number")
    return lengths[0]


def _constant(column: Array) -> bool:
    return bool((column == column[0]).all())


def _pair(ends: Sequence[float]) -> Interval:
    low, high = ends
    return float(low), float(high)
