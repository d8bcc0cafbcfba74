"""Which way verdicts lean is counted by label, and not to know leans neither way."""

import random

import pytest

from evaluations import evaluation
from nasalign.data.records import BinaryExample
from nasalign.evaluation.evaluation import Evaluation
from nasalign.evaluation.metrics import LEAN, METRICS, from_lean_sums, lean_sums
from nasalign.inference.verdicts import Verdict

VERDICTS: tuple[Verdict, ...] = ("positive", "negative", "unsure", "invalid")


def of(verdicts: list[Verdict], labels: list[bool]) -> dict[str, float]:
    sums = lean_sums(verdicts, labels).sum(axis=0)
    return {name: float(value) for name, value in from_lean_sums(sums).items()}


@pytest.mark.parametrize("seed", range(20))
def test_shares_are_counted(seed: int) -> None:
    rng = random.Random(seed)
    verdicts = rng.choices(VERDICTS, k=40)
    labels = [number % 4 > 0 for number in range(40)]  # 30 are to be affirmed
    pairs = list(zip(verdicts, labels, strict=True))
    assert of(verdicts, labels) == {
        "no_rate": verdicts.count("negative") / 40,
        "unsure_rate": verdicts.count("unsure") / 40,
        "negative_bias": pytest.approx(
            pairs.count(("negative", True)) / 30 - pairs.count(("positive", False)) / 10
        ),
    }


def test_a_model_that_always_denies_has_a_bias_of_one() -> None:
    assert of(["negative"] * 4, [True, False] * 2)["negative_bias"] == 1
    assert of(["positive"] * 4, [True, False] * 2)["negative_bias"] == -1
    assert of(["positive", "negative"] * 2, [True, False] * 2)["negative_bias"] == 0
    assert of(["unsure", "invalid"] * 2, [True, False] * 2)["negative_bias"] == 0


def test_not_to_know_is_wrong_and_counted_beside() -> None:
    verdicts: list[Verdict] = ["positive", "unsure", "negative", "invalid"] * 10
    metrics = evaluation(verdicts, [True, True, False, False] * 10, unsure=True).metrics(200)
    assert metrics["accuracy"] == 0.5
    assert metrics["recall"] == metrics["precision"] == 1.0  # of valid answers
    assert (metrics["invalid_rate"], metrics["unsure_rate"]) == (0.5, 0.25)
    low, high = metrics["intervals"]["unsure_rate"]
    assert low < 0.25 < high
    plain = evaluation(["positive"] * 4, [True] * 4).metrics(50)
    assert set(plain) == {*METRICS, "n", "intervals"}


def test_figures_have_intervals_by_question() -> None:
    lean = evaluation(["positive", "negative"] * 50, [True] * 60 + [False] * 40, unsure=True).lean(
        500
    )
    assert set(lean) == {*LEAN, "intervals"}
    for name in ("no_rate", "negative_bias"):
        low, high = lean["intervals"][name]
        assert low < lean[name] < high
    assert lean["intervals"]["unsure_rate"] == (0.0, 0.0)


def test_rows_keep_the_third_probability() -> None:
    mine = evaluation(["unsure", "positive"], [True, False], unsure=True)
    rows = mine.rows()
    assert [row["verdict"] for row in rows] == ["unsure", "positive"]
    again = Evaluation.from_rows(mine.examples, rows)
    assert again.metrics(50) == mine.metrics(50)
    assert again.of([1]).rows() == [rows[1]]
    assert "p_unsure" not in evaluation(["positive"], [True]).rows()[0]
    negated = Evaluation([BinaryExample("1?", True, "a", negated=True)], mine.of([0]).scores)
    assert negated.rows()[0]["negated"] is True
