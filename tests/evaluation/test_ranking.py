"""The area under the curve is scikit-learn's, for every row of weights at once."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import precision_score, recall_score, roc_auc_score

from nasalign.data.records import BinaryExample
from nasalign.evaluation.evaluation import Evaluation
from nasalign.evaluation.metrics import bootstrap_weights, interval
from nasalign.evaluation.ranking import auc, log_odds
from nasalign.inference.scoring import Scores


@pytest.mark.parametrize("seed", range(20))
def test_equal_to_scikit_learn_with_weights(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 50))
    odds = rng.integers(-3, 4, count).astype(float) if seed % 2 else rng.normal(size=count)
    labels = rng.random(count) < 0.4
    labels[:2] = True, False
    weights = rng.integers(0, 4, (8, count)).astype(float)
    weights[0] = 1
    for mine, row in zip(auc(odds, labels.tolist(), weights), weights, strict=True):
        if (row * labels).sum() and (row * ~labels).sum():
            assert mine == pytest.approx(roc_auc_score(labels, odds, sample_weight=row))
        else:
            assert math.isnan(mine)


def evaluation(labels: list[bool], yes: list[float], no: list[float]) -> Evaluation:
    examples = [BinaryExample(f"question {n // 2}", label) for n, label in enumerate(labels)]
    verdicts = ["positive" if p > q else "negative" for p, q in zip(yes, no, strict=True)]
    scores = Scores(torch.tensor(yes), torch.tensor(no), verdicts, torch.zeros(len(yes), 1, 1))
    return Evaluation(examples, scores)


def test_an_evaluation_has_it_with_an_interval_by_question() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(60) < 0.5).tolist()
    yes, no = rng.random(60).tolist(), rng.random(60).tolist()
    one = evaluation(labels, yes, no)
    odds = log_odds(one.scores.p_positive, one.scores.p_negative)
    assert odds == pytest.approx(np.log(yes) - np.log(no), abs=1e-5)
    weights = bootstrap_weights([example.question for example in one.examples], 100, 3)
    drawn = [roc_auc_score(labels, odds, sample_weight=row) for row in weights]
    found = one.auc(100, 3)
    assert found == pytest.approx((roc_auc_score(labels, odds), *interval(np.array(drawn))))

    said = np.array(yes) > np.array(no)

    def gap(row: np.ndarray | None) -> float:
        how = {"sample_weight": row, "zero_division": 0}
        return float(precision_score(labels, said, **how) - recall_score(labels, said, **how))

    gaps = np.array([gap(row) for row in weights])
    assert one.gap(100, 3) == pytest.approx((gap(None), *interval(gaps)))


def test_probabilities_of_zero_have_odds() -> None:
    one = evaluation([True, False], [1.0, 0.0], [0.0, 1.0])
    assert np.isfinite(log_odds(one.scores.p_positive, one.scores.p_negative)).all()
    found = one.auc(20)
    assert found == (1.0, 1.0, 1.0)


def test_examples_of_one_label_have_none() -> None:
    assert evaluation([True] * 4, [0.5] * 4, [0.1] * 4).auc(20) is None
