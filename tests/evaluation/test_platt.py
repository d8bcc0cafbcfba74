"""Platt scaling is scikit-learn's, and keeps the ranking."""

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from torch import Tensor

from nasalign.evaluation.platt import fit_platt


class Given(ClassifierMixin, BaseEstimator):
    """A classifier whose decision function is its only feature."""

    def fit(self, features: np.ndarray, labels: np.ndarray) -> "Given":
        self.classes_ = np.unique(labels)
        return self

    def predict(self, features: np.ndarray) -> np.ndarray:
        return features[:, 0] > 0

    def decision_function(self, features: np.ndarray) -> np.ndarray:
        return features[:, 0]


def drawn(seed: int, shift: float, scale: float, count: int = 60) -> tuple[Tensor, list[bool]]:
    generator = torch.Generator().manual_seed(seed)
    odds, noise = torch.randn(2, count, generator=generator, dtype=torch.float64)
    return scale * odds + shift, (odds + noise > 0.3).tolist()


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (-6.0, 0.2), (40.0, 15.0)])
@pytest.mark.parametrize("seed", range(3))
def test_equal_to_scikit_learn(seed: int, shift: float, scale: float) -> None:
    odds, labels = drawn(seed, shift, scale)
    features = odds.numpy()[:, None]
    given = FrozenEstimator(Given().fit(features, np.asarray(labels)))
    theirs = CalibratedClassifierCV(given, method="sigmoid").fit(features, labels)
    ours = fit_platt(odds, labels).of(odds).sigmoid()
    np.testing.assert_allclose(ours, theirs.predict_proba(features)[:, 1], atol=2e-4)


@pytest.mark.parametrize("seed", range(3))
def test_the_ranking_is_kept_and_the_lean_is_not(seed: int) -> None:
    odds, labels = drawn(seed, shift=-6.0, scale=0.5)
    fitted = fit_platt(odds, labels)
    scaled = fitted.of(odds)
    assert fitted.slope > 0
    assert roc_auc_score(labels, scaled) == roc_auc_score(labels, odds)
    assert not (odds > 0).any()
    assert float(scaled.sigmoid().mean()) == pytest.approx(sum(labels) / len(labels), abs=0.02)


def test_what_a_threshold_separates_has_a_finite_slope() -> None:
    odds = torch.tensor([-2.0, -1.0, 1.0, 2.0], dtype=torch.float64)
    fitted = fit_platt(odds, [False, False, True, True])
    assert 0 < fitted.slope < 10
    assert fitted.offset == pytest.approx(0.0, abs=1e-6)
    assert fit_platt(odds, [True, True, False, False]).slope < 0
    assert fit_platt(torch.full((4,), 3.0), [True, False, True, False]).slope == 0
