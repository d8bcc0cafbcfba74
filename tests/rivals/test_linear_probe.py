"""The linear probe: scikit-learn's fit, read off the model's own states."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import PreTrainedTokenizerFast

import tiny
from nasalign.errors import NothingToFixError
from nasalign.evaluation.evaluation import run_evaluation
from nasalign.rivals import linear_probe as room
from nasalign.rivals.linear_probe import PROBE, LinearProbe, layers_tried, states_of
from nasalign.rivals.rival import Material, balanced_accuracy, odds_of
from rivals.material import CITY_EXAMPLES, CITY_PAIRS, learnable, state


@pytest.fixture
def material(tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> Material:
    monkeypatch.setattr(room, "training_pairs", lambda _: CITY_PAIRS[:8])
    return learnable(tiny.build_model("llama", layers=4), tokenizer)


@pytest.mark.parametrize("penalty", [0.001, 1.0])
def test_equal_to_scikit_learn(penalty: float) -> None:
    rng = np.random.default_rng(0)
    states = rng.normal(size=(60, 12)) * rng.uniform(0.1, 40, size=12) + 5
    states[:, 3] = 2.0  # a state that never changes
    labels = states[:, 0] + rng.normal(size=60) * 20 > 5
    probe = LinearProbe.fit(torch.from_numpy(states), labels.tolist(), penalty)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=1000))
    expected = pipeline.fit(states, labels).decision_function(states)
    np.testing.assert_allclose(probe.odds(torch.from_numpy(states)), expected, atol=1e-6)


def test_states_are_those_of_the_last_token(material: Material) -> None:
    layers = layers_tried(material.model)
    assert layers == [0, 1, 2, 3]
    states = states_of(material, CITY_EXAMPLES, layers)
    builder = material.builder()
    for place in (0, 7, 19):
        ids = torch.tensor([builder.binary(CITY_EXAMPLES[place]).token_ids])
        hidden = material.model(input_ids=ids, output_hidden_states=True).hidden_states
        for layer in layers:
            torch.testing.assert_close(states[layer][place], hidden[layer][0, -1])


def test_it_judges_in_place_of_the_model(material: Material) -> None:
    model = material.model
    before, kept = tiny.state(model), state(model)
    fitted = PROBE.fit(material)
    assert fitted.adjusted is not None
    plain = run_evaluation(model, material.session.tokenizer, CITY_EXAMPLES, material.settings)
    judged = fitted.adjusted(plain)
    odds = odds_of(judged.scores)
    reached = balanced_accuracy(odds, CITY_EXAMPLES)
    assert reached == fitted.chosen["development balanced accuracy"]
    assert reached > balanced_accuracy(odds_of(plain.scores), CITY_EXAMPLES)
    assert judged.scores.verdicts == ["positive" if one > 0 else "negative" for one in odds]
    assert judged.scores.nas is plain.scores.nas
    assert fitted.chosen["layer"] in layers_tried(model)
    assert fitted.chosen["penalty"] in room.PENALTIES
    assert fitted.chosen["pairs"] == 8
    assert fitted.parameters == model.config.hidden_size + 1
    assert tiny.same(before, model)
    assert state(model) == kept
    alone = fitted.adjusted(plain.of([5, 2]))
    torch.testing.assert_close(odds_of(alone.scores), odds[[5, 2]], rtol=1e-4, atol=1e-5)


def test_layer_and_penalty_are_the_best_on_the_development_split(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[int, float]] = []
    accuracies: list[float] = []

    def quality(odds: torch.Tensor, examples: object) -> room.Quality:
        at = len(accuracies)
        accuracies.append(0.9 if at in (6, 9) else 0.6)
        return room.Quality(accuracies[-1], 0.5)

    monkeypatch.setattr(room.Quality, "of", quality)
    monkeypatch.setattr(room, "check_better", lambda *_: None)
    fitted = PROBE.fit(material)
    tried = [(layer, one) for layer in layers_tried(material.model) for one in room.PENALTIES]
    assert len(accuracies) == len(tried) + 1  # and the untouched model
    assert (fitted.chosen["layer"], fitted.chosen["penalty"]) == tried[6]


def test_no_sample_and_nothing_found_are_said(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned = [replace(one, label=not one.label) for one in CITY_EXAMPLES]
    with pytest.raises(NothingToFixError, match=r"linear probe .* finds nothing that is better"):
        PROBE.fit(replace(material, development=turned))
    monkeypatch.setattr(room, "training_pairs", lambda _: [])
    with pytest.raises(NothingToFixError, match="no sample to train a linear probe on"):
        PROBE.fit(material)
