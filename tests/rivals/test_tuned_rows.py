"""The rows of nasa+ by the rule of the rivals: no other outputs change, and it learns."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedTokenizerFast

import tiny
from nasalign.head_rows.rows import head_slices, read_weight_rows, write_rows
from nasalign.models.geometry import HeadGeometry
from nasalign.rivals.tuned_rows import TUNED_ROWS, RowChange
from rivals.material import CITY_EXAMPLES, hooks, learnable, logits


@pytest.mark.parametrize("family", ["llama", "phi3", "qwen2"])
def test_it_does_what_other_rows_in_the_weights_do(family: str) -> None:
    model = tiny.build_model(family, layers=2).requires_grad_(False)
    heads = [(0, 1), (1, 2), (1, 3)]
    change, before = RowChange(model, heads), logits(model)
    generator = torch.Generator().manual_seed(0)
    moved = [torch.randn(one.shape, generator=generator) / 10 for one in change.rows]
    for one, more in zip(change.rows, moved, strict=True):
        one.data += more
    with change.on(model):
        ours = logits(model)
    assert torch.equal(logits(model), before)
    assert not hooks(model)
    geometry = HeadGeometry.of(model)
    own = {where for head in heads for where in head_slices(geometry, *head, "group")}
    assert change.numbers == sum(read_weight_rows(model, where).numel() for where in own)
    for where, more in zip(change._rows.parameters, moved, strict=True):
        write_rows(model, where, read_weight_rows(model, where) + more)
    torch.testing.assert_close(ours, logits(model))
    assert (ours - before).abs().max() > 1e-3


def test_it_learns_as_a_row_of_the_comparison(tokenizer: PreTrainedTokenizerFast) -> None:
    given = learnable(tiny.build_model("llama", layers=2), tokenizer)
    fitted = TUNED_ROWS.fit(given)
    assert len(fitted.chosen["heads"]) == max(1, len(HeadGeometry.of(given.model).places) // 10)
    before = given.scores(CITY_EXAMPLES).p_positive
    with fitted.on(given.model):
        assert (given.scores(CITY_EXAMPLES).p_positive != before).any()
    assert torch.equal(given.scores(CITY_EXAMPLES).p_positive, before)
