"""The heads of nasa+ by the rule of the rivals: nothing else changes, and it learns."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedTokenizerFast

import tiny
from nasalign.head_rows.low_rank import RANK
from nasalign.models.geometry import HeadGeometry
from nasalign.nas.heads import Head
from nasalign.nasa_plus.head_parts import joint_slices
from nasalign.rivals.head_lora import LORA_HEADS
from rivals.material import CITY_EXAMPLES, learnable


def test_it_learns_as_a_row_of_the_comparison(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nasalign.nasa_plus.attribution.ONE_OF", 2)  # one tiny head learns nothing
    given = learnable(tiny.build_model("llama", layers=2), tokenizer)
    fitted = LORA_HEADS.fit(given)
    assert len(fitted.chosen["heads"]) == len(HeadGeometry.of(given.model).places) // 2
    before = given.scores(CITY_EXAMPLES).p_positive
    with fitted.on(given.model):
        assert (given.scores(CITY_EXAMPLES).p_positive != before).any()
    assert torch.equal(given.scores(CITY_EXAMPLES).p_positive, before)
    heads = [Head(*place, 0.0) for place in fitted.chosen["heads"]]
    slices, columns = joint_slices(given.model, heads, given.settings)
    modules = {where.module for where in slices}
    assert columns.keys() < modules
    sizes = [sum(given.model.get_submodule(name).weight.shape) for name in modules]
    assert fitted.parameters == RANK * sum(sizes)
