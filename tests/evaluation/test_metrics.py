"""Metrics are those of the reference, and their intervals cover what they should."""

import math
import random

import numpy as np
import pytest

import reference
from evaluations import evaluation
from nasalign.evaluation.metrics import (
    BINS,
    METRICS,
    Array,
    bootstrap_weights,
    confidences,
    from_sums,
    interval,
    sample_sums,
)
from nasalign.inference.verdicts import Verdict

VERDICTS: tuple[Verdict, ...] = ("positive", "negative", "invalid")


def both(said: list[float]) -> list[tuple[float, float]]:
    return [(one, one**2) for one in said]


def of(verdicts: list[Verdict], labels: list[bool], said: list[float]) -> dict[str, float]:
    """The metrics of verdicts given with a probability; of the two words alone it is the square."""
    sums = sample_sums(verdicts, labels, both(said), *np.zeros((2, len(verdicts))))
    return {name: float(value) for name, value in from_sums(sums.sum(axis=0)).items()}


@pytest.mark.parametrize("seed", range(50))
def test_equal_to_the_reference(seed: int) -> None:
    rng = random.Random(seed)
    count = rng.randint(1, 60)
    verdicts = rng.choices(VERDICTS, weights=[rng.random() + 0.05 for _ in VERDICTS], k=count)
    labels = [rng.random() < 0.5 for _ in range(count)]
    edges = [edge / BINS for edge in range(BINS + 1)]
    said = [rng.choice(edges) if rng.random() < 0.3 else rng.random() for _ in range(count)]
    mine, expected = of(verdicts, labels, said), reference.evaluate(verdicts, labels, said)
    for name, value in expected.items():
        assert mine[name] == pytest.approx(value, abs=1e-12), name
    squared = reference.evaluate(verdicts, labels, [one for _, one in both(said)])
    assert mine["ece_two_words"] == pytest.approx(squared["ece"], abs=1e-12)
    assert mine["yes_rate"] == verdicts.count("positive") / count


@pytest.mark.parametrize(
    ("confidence", "place"),
    [
        *((0.0, 0), (0.1 - 1e-9, 0), (0.1, 1), (0.2, 2), (0.3, 3), (0.6, 6), (0.7, 7)),
        *((0.9 - 1e-9, 8), (0.9, 9), (1.0, 9), (1.0 + 1e-6, 9)),  # sums of float32 may exceed 1
    ],
)
def test_a_bin_holds_its_lower_edge(confidence: float, place: int) -> None:
    """As in the code of He et al. (2022): ``score < (j + 1) / buckets``, the first such j."""
    for kind, said in enumerate([(confidence, 0.05), (0.05, confidence)]):
        [row] = sample_sums(["positive"], [True], [said], *np.zeros((2, 1)))
        bins = row[7:].reshape(2, BINS, 3)
        assert bins[kind, place].tolist() == [1.0, confidence, 1.0]
        assert bins[1 - kind, 0].tolist() == [1.0, 0.05, 1.0]
        assert np.count_nonzero(bins[:, :, 0]) == 2


def test_both_calibration_errors_by_hand() -> None:
    """Four answers, three right; half or more of the probability is on neither word.

    Over the vocabulary: 0.2 and 0.25 share a bin, |0.45 - 2| = 1.55; |0.3 - 0| and |0.5 - 1|.
    Over the two words: 0.2 / 0.4 = 0.5 and 0.25 / 0.5 = 0.5, |1.0 - 2| = 1; 0.3 / 0.4 = 0.75,
    |0.75 - 0|; 0.5 / 0.5 = 1, |1 - 1|.
    """
    probabilities = [("positive", 0.2, 0.2), ("negative", 0.25, 0.25), ("negative", 0.1, 0.3)]
    probabilities.append(("positive", 0.5, 0.0))
    said = [confidences(*one) for one in probabilities]
    verdicts, labels = [one[0] for one in probabilities], [True, False, True, True]
    found = from_sums(sample_sums(verdicts, labels, said, *np.zeros((2, 4))).sum(axis=0))
    assert float(found["ece"]) == pytest.approx((1.55 + 0.3 + 0.5) / 4)
    assert float(found["ece_two_words"]) == pytest.approx((1.0 + 0.75 + 0.0) / 4)
    assert confidences("negative", 0.0, 0.0) == (0.0, 0.0)


def test_coverage_is_the_mean_over_all_answers() -> None:
    verdicts: list[Verdict] = ["positive", "invalid", "negative"]
    said, nas, covered = [(0.5, 0.5)] * 3, np.zeros(3), np.array([0.9, 0.3, 0.6])
    found = from_sums(sample_sums(verdicts, [True] * 3, said, nas, covered).sum(axis=0))
    assert float(found["coverage"]) == pytest.approx(0.6)


def test_a_model_that_says_no_word_of_the_two_has_zeros() -> None:
    metrics = of(["invalid", "invalid"], [True, False], [0.5, 0.5])
    assert metrics == dict.fromkeys((*METRICS, "gap"), 0.0) | {"invalid_rate": 1.0}


def test_a_model_that_always_denies_has_no_precision() -> None:
    metrics = of(["negative"] * 4, [True, False, False, False], [1.0] * 4)
    assert (metrics["accuracy"], metrics["yes_rate"]) == (0.75, 0.0)
    assert (metrics["precision"], metrics["recall"], metrics["f1"]) == (0.0, 0.0, 0.0)
    assert metrics["ece"] == 0.25
    assert metrics["specificity"] == 1.0


def test_specificity_is_the_share_of_wrong_answers_refused() -> None:
    """Of four wrong answers three are refused or accepted in words: one of these is accepted."""
    said: list[Verdict] = ["positive", "negative", "negative", "invalid", "positive"]
    metrics = of(said, [False, False, False, False, True], [1.0] * 5)
    assert metrics["specificity"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(("yes", "value", "bounded"), [(0, None, 0), (9, 1.0, 0), (10, 1.0, 1)])
def test_a_precision_of_few_yes_has_no_interval_and_of_none_no_value(
    yes: int, value: float | None, bounded: int
) -> None:
    verdicts: list[Verdict] = ["positive"] * yes + ["negative"] * (40 - yes)
    labels = [index < 20 for index in range(40)]
    mine = evaluation(verdicts, labels)
    metrics = mine.metrics(200)
    assert metrics["precision"] == value
    assert (metrics["intervals"]["precision"] != (None, None)) == bounded
    assert metrics["specificity"] == 1.0
    other = evaluation(["positive"] * 20 + ["negative"] * 20, labels)
    assert math.isnan(mine.change_to(other, 200)["precision"][0]) != bounded
    assert math.isnan(other.change_to(mine, 200)["precision"][0]) != bounded
    gap, low, _ = mine.gap(200)
    assert math.isnan(low) != bounded
    assert math.isnan(gap) == (value is None)


def test_a_share_of_no_answers_is_undefined() -> None:
    metrics = evaluation(["positive"] * 20, [True] * 20).metrics(50)
    assert (metrics["specificity"], metrics["recall"]) == (None, 1.0)
    metrics = evaluation(["positive"] * 20, [False] * 20).metrics(50)
    assert (metrics["specificity"], metrics["recall"]) == (0.0, None)
    assert metrics["intervals"]["recall"] == (None, None)


def test_bootstrap_samples_draw_whole_clusters() -> None:
    clusters = ["b", "a", "b", "c", "b", "a"]
    weights = bootstrap_weights(clusters, 500, seed=0)
    assert weights.shape == (500, 6)
    a, b, c = weights[:, 1], weights[:, 0], weights[:, 3]
    for index, cluster in enumerate(clusters):
        assert np.array_equal(weights[:, index], {"a": a, "b": b, "c": c}[cluster])
    assert np.array_equal(a + b + c, np.full(500, 3.0))
    assert weights.min() == 0
    assert weights.max() == 3
    assert weights.mean() == pytest.approx(1.0, abs=0.1)


def test_metrics_of_bootstrap_samples_are_those_of_the_samples_drawn() -> None:
    """Weights of whole numbers are samples that stand in the data several times."""
    rng = random.Random(0)
    verdicts = rng.choices(VERDICTS, k=12)
    labels, said = [rng.random() < 0.5 for _ in verdicts], [rng.random() for _ in verdicts]
    weights = bootstrap_weights([str(index) for index in range(12)], 5, seed=0)
    spread = from_sums(weights @ sample_sums(verdicts, labels, both(said), *np.zeros((2, 12))))
    for row, drawn in enumerate(weights.astype(int)):
        places = np.repeat(np.arange(12), drawn)
        expected = reference.evaluate(
            *([values[place] for place in places] for values in (verdicts, labels, said))
        )
        for name, value in expected.items():
            assert spread[name][row] == pytest.approx(value, abs=1e-12), name


def test_the_interval_is_that_of_the_percentiles() -> None:
    assert interval(np.arange(1001.0)) == (25.0, 975.0)


def width(bounds: tuple[float, float]) -> float:
    return bounds[1] - bounds[0]


def test_the_interval_of_the_accuracy_is_the_binomial_one() -> None:
    right, count = 280, 400
    verdicts: list[Verdict] = ["positive"] * count
    metrics = evaluation(verdicts, [index < right for index in range(count)]).metrics(4000)
    low, high = metrics["intervals"]["accuracy"]
    assert set(metrics["intervals"]) == set(METRICS)
    assert metrics["accuracy"] == right / count
    assert low < right / count < high
    expected = 2 * 1.96 * (0.7 * 0.3 / count) ** 0.5
    assert width((low, high)) == pytest.approx(expected, rel=0.08)


def test_examples_of_one_question_count_as_one() -> None:
    """Copies of the same example add nothing: the interval stays as wide."""
    labels = [index % 3 > 0 for index in range(60)]
    once = evaluation(["positive"] * 60, labels).metrics(4000)
    clusters = [f"question {index}" for index in range(60)]
    copies = evaluation(["positive"] * 240, labels * 4, clusters * 4).metrics(4000)
    apart = evaluation(["positive"] * 240, labels * 4).metrics(4000)
    assert copies["accuracy"] == once["accuracy"]
    wide, copied = (width(values["intervals"]["accuracy"]) for values in (once, copies))
    assert copied == pytest.approx(wide, rel=0.1)
    assert width(apart["intervals"]["accuracy"]) == pytest.approx(wide / 2, rel=0.1)


def test_the_confidence_is_the_probability_of_the_word_that_was_said() -> None:
    mine = evaluation(["positive", "negative", "invalid"], [True, False, True])
    sums: Array = mine.sums()
    yes, no = mine.scores.p_positive.tolist(), mine.scores.p_negative.tolist()
    whole, two = sums[:, 7:].reshape(3, 2, BINS, 3)[:, :, :, 1].sum(axis=2).T.tolist()
    assert whole == [yes[0], no[1], 0.0]
    assert two == pytest.approx([yes[0] / (yes[0] + no[0]), no[1] / (yes[1] + no[1]), 0.0])
    assert sums[:, 5] == pytest.approx(mine.scores.nas.sum(dim=(1, 2)).numpy(), rel=1e-5)


def test_no_change_is_no_change() -> None:
    rng = random.Random(1)
    mine = evaluation(rng.choices(VERDICTS, k=80), [rng.random() < 0.5 for _ in range(80)])
    assert mine.change_to(mine) == dict.fromkeys(METRICS, (0.0, 0.0, 0.0))


def test_a_change_is_paired_by_question() -> None:
    """One verdict of a hundred is mended: that can never make it worse, in no bootstrap sample."""
    labels = [index % 2 == 0 for index in range(100)]
    before: list[Verdict] = ["negative"] * 100
    after: list[Verdict] = ["positive", *before[1:]]
    worse, better = evaluation(before, labels), evaluation(after, labels)
    change, low, high = worse.change_to(better)["accuracy"]
    assert change == pytest.approx(0.01)
    assert (low, high) == pytest.approx((0.0, 0.03))
    back = better.change_to(worse)["accuracy"]
    assert back == pytest.approx((-change, -high, -low))
