"""The closed-form offset: it balances, by no label, and a first step is of least norm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

import tiny
from nasalign.errors import NasAlignError
from nasalign.nas.offset import attention_offset, words_of
from nasalign.rivals import offset as room
from nasalign.rivals.offset import CLOSE, OFFSET, balanced
from nasalign.rivals.rival import Material, log_odds
from rivals.material import material as material_of


@pytest.fixture
def material(tokenizer: PreTrainedTokenizerFast) -> Material:
    model = tiny.build_model("llama", layers=2, seed=10)  # it leans to No
    return material_of(model, tokenizer, batch_size=8, k=7, n=4)


def mean(material: Material) -> float:
    return float(log_odds(material.scores(material.pairs)).mean())


def test_the_mean_log_odds_are_near_0(material: Material) -> None:
    before = mean(material)
    fitted = OFFSET.fit(material)
    means = fitted.chosen["mean log odds"]
    assert abs(before) > 2 * CLOSE
    assert means[0] == pytest.approx(before, abs=1e-3)
    assert 2 <= len(means) <= room.STEPS + 1
    with fitted.on(material.model):
        after = mean(material)
    assert abs(after) < CLOSE
    assert min(means, key=abs) == pytest.approx(after, abs=1e-3)
    assert mean(material) == before  # taken off, to the bit
    assert fitted.parameters == fitted.chosen["heads"] == 8
    assert (OFFSET.name, OFFSET.serving, OFFSET.logits) == ("offset", "a runtime hook", False)


def test_the_first_step_is_of_least_norm(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lies along the slope, as long as it takes to first order, at the chosen heads alone."""
    model = material.model.double()
    prompts = [material.builder().binary(example) for example in material.pairs]
    words = words_of(prompts[0])
    chosen = torch.tensor([[True, False, True, True], [True, True, False, True]])

    def says(offsets: Tensor) -> float:
        with attention_offset(model, offsets, words):
            return mean(material)

    slope = torch.zeros(chosen.shape, dtype=torch.float64)
    for place in chosen.nonzero().tolist():
        step = torch.zeros_like(slope)
        step[tuple(place)] = 1e-2
        slope[tuple(place)] = (says(step) - says(-step)) / 2e-2
    monkeypatch.setattr(room, "STEPS", 1)
    monkeypatch.setattr(room, "CLOSE", 0.0)
    offsets, means = balanced(model, prompts, chosen, batch_size=8)
    assert len(means) == 2
    assert abs(means[1]) < abs(means[0])
    assert torch.equal(offsets != 0, chosen)
    expected = -means[0] * slope / slope.square().sum()
    assert (expected.abs() < room.LARGEST).any()
    bounded = expected.clamp(-room.LARGEST, room.LARGEST)
    torch.testing.assert_close(offsets, bounded, atol=1e-3, rtol=1e-2)


def test_the_best_step_is_kept(material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([-2.0, 0.5, -0.4, 3.0, 1.0])
    slope = torch.ones(2, 4)
    asked: list[Tensor] = []

    def measured(model: Any, prompts: Any, offsets: Tensor, *rest: Any) -> tuple[float, Tensor]:
        asked.append(offsets)
        return next(found), slope

    monkeypatch.setattr(room, "_mean_and_slope", measured)
    offsets, means = balanced(material.model, [], torch.ones(2, 4, dtype=torch.bool))
    assert means == [-2.0, 0.5, -0.4, 3.0, 1.0]
    assert torch.equal(offsets, asked[2])
    torch.testing.assert_close(asked[1], torch.full((2, 4), 0.25))
    torch.testing.assert_close(asked[2], torch.full((2, 4), 0.25 - 0.5 / 8))


def test_heads_that_say_nothing_get_no_offset(material: Material) -> None:
    prompts = [material.builder().binary(example) for example in material.pairs]
    offsets, means = balanced(material.model, prompts, torch.zeros(2, 4, dtype=torch.bool))
    assert not offsets.any()
    assert len(means) == 1


def test_no_label_is_used(material: Material) -> None:
    other = [replace(example, label=not example.label) for example in material.pairs]
    given, swapped = (OFFSET.fit(one) for one in (material, replace(material, pairs=other)))
    assert given.chosen == swapped.chosen


def test_without_pairs_there_is_nothing_to_balance(material: Material) -> None:
    with pytest.raises(NasAlignError, match="no pair of answers"):
        OFFSET.fit(replace(material, pairs=[]))
