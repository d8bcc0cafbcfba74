"""The rows of nasa+ by the rule of the rivals: no other outputs change, and it learns."""

from __future__ import annotations

import torch
from transformers import PreTrainedTokenizerFast

import tiny
from nasalign.head_rows.low_rank import RANK
from nasalign.head_rows.rows import head_slices
from nasalign.models.geometry import HeadGeometry
from nasalign.rivals.tuned_rows import TUNED_ROWS
from rivals.material import CITY_EXAMPLES, learnable


def test_it_learns_as_a_row_of_the_comparison(tokenizer: PreTrainedTokenizerFast) -> None:
    given = learnable(tiny.build_model("llama", layers=2), tokenizer)
    fitted = TUNED_ROWS.fit(given)
    assert len(fitted.chosen["heads"]) == max(1, len(HeadGeometry.of(given.model).places) // 10)
    before = given.scores(CITY_EXAMPLES).p_positive
    with fitted.on(given.model):
        assert (given.scores(CITY_EXAMPLES).p_positive != before).any()
    assert torch.equal(given.scores(CITY_EXAMPLES).p_positive, before)
    geometry = HeadGeometry.of(given.model)
    rows = [
        where for head in fitted.chosen["heads"] for where in head_slices(geometry, *head, "group")
    ]
    modules = {where.module: given.model.get_submodule(where.module) for where in rows}
    sizes = [sum(one.weight.shape) for one in modules.values()]
    assert fitted.parameters == RANK * sum(sizes)
