"""Head selection equals the literal Eq. 2-4."""

import math

import pytest
import torch

import reference
from nasalign.config import load_preset
from nasalign.nas.heads import (
    ALIGNMENT,
    STUDY,
    HeadCounts,
    head_counts,
    model_nas,
    places,
    select_heads,
    single_head_nas,
)
from nasalign.nasa.algorithm import Measurement


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("consistency", [0.5, 0.7, 0.9])
def test_equals_the_reference(seed: int, consistency: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    nas = torch.randn(20, 4, 6, generator=generator) + 2 * torch.randn(4, 6, generator=generator)
    heads = select_heads(nas, k=8, n=5, consistency=consistency)
    expected = reference.select_heads(nas, k=8, n=5, consistency=consistency)
    assert [(head.layer, head.head) for head in heads] == expected
    assert heads == sorted(heads, key=lambda head: -head.nas)
    assert 0 < len(heads) <= 5


def test_inconsistent_heads_are_left_out() -> None:
    nas = torch.zeros(10, 1, 3)
    nas[:8, 0, 0] = 100.0  # the highest mean, but in 8 of 10 lists only
    nas[:, 0, 1] = 1.0
    nas[8:, 0, 2] = 2.0
    assert [head.head for head in select_heads(nas, k=1, n=3, consistency=0.8)] == [0]
    assert select_heads(nas, k=1, n=3, consistency=0.9) == []


@pytest.mark.parametrize(("lists", "chosen"), [(8, []), (9, [0])])
def test_a_head_must_be_in_nine_of_ten_lists_unless_said_otherwise(
    lists: int, chosen: list[int]
) -> None:
    nas = torch.zeros(10, 1, 3)
    nas[:lists, 0, 0] = 100.0
    nas[lists:, 0, 2] = 2.0
    assert [head.head for head in select_heads(nas, k=1, n=3)] == chosen


def test_places_without_a_head_are_not_heads() -> None:
    """Of two layers, the first has one head and the second has three."""
    nas = torch.tensor([[[5.0, torch.nan, torch.nan], [4.0, 6.0, -1.0]]]).repeat(10, 1, 1)
    assert places(nas) == places(nas[0]) == [(0, 0), (1, 0), (1, 1), (1, 2)]
    chosen = [head[:2] for head in select_heads(nas, k=3, n=9)]
    assert chosen == [(1, 1), (0, 0), (1, 0)]
    assert [head[:2] for head in select_heads(nas, k=100, n=2)] == [(1, 1), (0, 0)]
    assert model_nas(nas).tolist() == [14.0] * 10
    assert Measurement(single_head_nas(nas), 0.5).model == 14.0


def test_what_is_not_finite_shows_in_the_sum_beside_a_missing_head() -> None:
    nas = torch.tensor([[[5.0, torch.nan], [torch.inf, -1.0]]])
    assert not model_nas(nas).isfinite().any()
    assert not math.isfinite(Measurement(single_head_nas(nas), 0.5).model)


def test_averages() -> None:
    nas = torch.arange(24.0).reshape(2, 3, 4)
    assert single_head_nas(nas).allclose(reference.single_head_nas(nas))
    assert model_nas(nas).mean().item() == pytest.approx(reference.model_nas(nas))


def test_counts_scale_with_the_model() -> None:
    assert head_counts(ALIGNMENT, None, None, 1024) == ALIGNMENT
    assert head_counts(STUDY, None, None, 4096) == STUDY
    assert head_counts(ALIGNMENT, None, None, 270) == HeadCounts(k=26, n=8)


@pytest.mark.parametrize("heads", [448, 784, 1024])  # Gemma-7B, Qwen2-7B, LLaMA-3-8B
def test_the_paper_takes_the_same_counts_for_every_model(heads: int) -> None:
    paper, small = load_preset("paper"), load_preset("fast")
    assert head_counts(ALIGNMENT, paper.k, paper.n, heads) == HeadCounts(k=100, n=30)
    assert head_counts(STUDY, paper.study_k, paper.study_n, heads) == HeadCounts(k=200, n=100)
    assert head_counts(ALIGNMENT, small.k, small.n, 270) == HeadCounts(k=26, n=8)
    assert head_counts(STUDY, small.study_k, small.study_n, 270) == HeadCounts(k=53, n=26)


def test_nothing_to_select_from() -> None:
    with pytest.raises(ValueError, match="0 samples"):
        select_heads(torch.zeros(0, 2, 2), k=1, n=1)
