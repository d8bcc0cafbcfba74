"""Each statistic of Tables 1, 2 and 9 is that of its formula, written out here."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import stdtr

from nasalign.evaluation.analysis import correlation, head_overlap, regression

pytestmark = pytest.mark.filterwarnings("error")  # what there is not is no warning
Array = NDArray[np.float64]
Z = 1.959963984540054  # 97.5 % of the normal distribution


def samples(n: int, seed: int = 0) -> tuple[Array, Array, Array]:
    """Made NAS, negative and positive confidence; some confidences are equal."""
    rng = np.random.default_rng(seed)
    negative = rng.uniform(size=n).round(1)
    positive = (1 - negative) * rng.uniform(size=n)
    return 3 * negative - 2 * positive + rng.normal(size=n), negative, positive


def pearson(x: Array, y: Array) -> float:
    dx, dy = x - x.mean(), y - y.mean()
    return float((dx * dy).sum() / math.sqrt((dx**2).sum() * (dy**2).sum()))


def ranks(values: Array) -> Array:
    """Ranks from 1; equal values share the mean of theirs."""
    return np.array([(values < one).sum() + ((values == one).sum() + 1) / 2 for one in values])


def two_sided(t: float, degrees: int) -> float:
    return 2 * float(stdtr(degrees, -abs(t)))


@pytest.mark.parametrize("n", [4, 10, 60])
def test_coefficients_p_values_and_intervals_are_those_of_the_formulas(n: int) -> None:
    """The intervals are those of Fisher, and of Bonett and Wright."""
    nas, negative, _ = samples(n)
    found = correlation(nas.tolist(), negative.tolist())
    rho = pearson(ranks(nas), ranks(negative))
    assert found.n == n
    assert found.pearson == pytest.approx(pearson(nas, negative))
    assert found.spearman == pytest.approx(rho)
    errors = (math.sqrt(1 / (n - 3)), math.sqrt((1 + rho**2 / 2) / (n - 3)))
    for r, p, interval, error in (
        (found.pearson, found.pearson_p, found.pearson_interval, errors[0]),
        (found.spearman, found.spearman_p, found.spearman_interval, errors[1]),
    ):
        assert p == pytest.approx(two_sided(r * math.sqrt((n - 2) / (1 - r**2)), n - 2))
        z = math.atanh(r)
        assert interval == pytest.approx([math.tanh(z - Z * error), math.tanh(z + Z * error)])


def test_a_correlation_that_there_is_not_is_not_a_number_and_warns_of_nothing() -> None:
    for nas, negative in (([1.0] * 5, [0.1, 0.2, 0.3, 0.4, 0.5]), ([1.0, 2.0], [0.1, 0.4])):
        found = correlation(nas, negative)
        assert found.n == len(nas)
        assert all(map(math.isnan, (found.pearson, found.pearson_p, *found.spearman_interval)))
    assert all(map(math.isnan, correlation([1, 3, 2], [0.1, 0.4, 0.8]).pearson_interval))


@pytest.mark.parametrize("n", range(4, 12))
def test_a_perfect_correlation_has_no_width(n: int) -> None:
    found = correlation(range(n), [-0.25 * number for number in range(n)])
    assert found.spearman_interval == pytest.approx((-1.0, -1.0))
    assert found.pearson_interval == pytest.approx((-1.0, -1.0))
    json.dumps(asdict(found))


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[3, 2\]"):
        correlation([1, 2, 3], [0.1, 0.2])
    with pytest.raises(ValueError, match=r"\[4, 4, 3\]"):
        regression([1, 2, 3, 4], [0.1] * 4, [0.2] * 3, 1)


@pytest.mark.parametrize("comparisons", [1, 4])
def test_the_regression_is_that_of_least_squares(comparisons: int) -> None:
    nas, negative, positive = samples(80)
    found = regression(nas.tolist(), negative.tolist(), positive.tolist(), comparisons)
    design = np.stack([np.ones(80), negative, positive], axis=1)
    weights, (residue,), *_ = np.linalg.lstsq(design, nas, rcond=None)
    error = math.sqrt(residue / 77 * np.linalg.inv(design.T @ design)[1, 1])
    assert (found.n, found.comparisons) == (80, comparisons)
    assert found.coefficient == pytest.approx(weights[1])
    assert found.p == pytest.approx(min(1.0, comparisons * two_sided(weights[1] / error, 77)))
    assert found.r_squared == pytest.approx(1 - residue / ((nas - nas.mean()) ** 2).sum())
    for end, sign in zip(found.interval, (-1, 1), strict=True):
        reach = (end - weights[1]) / error * sign  # in standard errors
        assert two_sided(reach, 77) == pytest.approx(0.05)
    json.dumps(asdict(found))


def test_a_corrected_p_value_is_at_most_one() -> None:
    rng = np.random.default_rng(3)
    columns = rng.uniform(size=(3, 30)).tolist()
    alone, among = regression(*columns, 1), regression(*columns, 50)
    assert 0.02 < alone.p < 1
    assert among.p == 1.0


def test_what_the_samples_do_not_determine_is_not_a_number() -> None:
    nas, negative, positive = samples(20)
    for columns in (
        (nas, negative, 1 - negative),
        (nas, negative, 0 * positive),
        (0 * nas, negative, positive),
        (nas[:3], negative[:3], positive[:3]),
    ):
        found = regression(*(column.tolist() for column in columns), 1)
        assert math.isnan(found.coefficient)
        assert math.isnan(found.p)
    with pytest.raises(ValueError, match="0 comparisons"):
        regression(nas.tolist(), negative.tolist(), positive.tolist(), 0)


def test_overlap_is_by_the_shorter_list() -> None:
    found = head_overlap(
        {
            "one": [(0, 0), (0, 1), (1, 0), (1, 1)],
            "two": [(1, 1), (0, 0), (2, 2)],
            "three": [(0, 0), (0, 1), (2, 2), (3, 3), (4, 4)],
        }
    )
    assert found.sizes == {"one": 4, "two": 3, "three": 5}
    assert (found.shared, found.common) == (1, pytest.approx(1 / 3))
    pairs = {(pair.first, pair.second): (pair.shared, pair.share) for pair in found.pairs}
    assert pairs == {
        ("one", "two"): (2, pytest.approx(2 / 3)),
        ("one", "three"): (2, pytest.approx(2 / 4)),
        ("two", "three"): (2, pytest.approx(2 / 3)),
    }
    json.dumps(asdict(found))


def test_an_empty_list_of_heads_is_named_and_has_no_proportion() -> None:
    found = head_overlap({"one": [(0, 0)], "none": [], "two": [(0, 0), (1, 0)]})
    assert found.empty == ["none"]
    assert (found.shared, found.common) == (0, None)
    assert [pair.share for pair in found.pairs] == [None, 1.0, None]
    with pytest.raises(ValueError, match="two domains"):
        head_overlap({"one": [(0, 0)]})
