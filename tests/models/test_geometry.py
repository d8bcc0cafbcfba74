"""The rows of a head are those, and only those, that make its query and its group's key."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    AutoModelForCausalLM,
    BartConfig,
    GPTJConfig,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
)

import tiny
from nasalign.errors import ModelError
from nasalign.models.geometry import HeadGeometry
from nasalign.models.head_layouts import RowSlice

IDS = torch.arange(5, 17)[None]
NORM_OVER_HEADS = ("olmo2",)  # its q_norm and k_norm divide by the mean over all heads of the layer
captured: dict[int, tuple[Tensor, Tensor]] = {}


def capture(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any
) -> tuple[Tensor, None]:
    """Keeps the query and the key, and gives out what depends on neither.

    So a change in one layer does not reach the next.
    """
    captured[module.layer_idx] = (query.clone(), key.clone())
    repeats = query.shape[1] // value.shape[1]
    return value.repeat_interleave(repeats, dim=1).transpose(1, 2).contiguous(), None


AttentionInterface.register("nasalign_test_capture", capture)


@torch.no_grad()
def reaching_attention(model: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """The queries [L, H, B, T, D] and the keys [L, groups, B, T, D] that reach attention."""
    captured.clear()
    model(IDS, use_cache=False)
    layers = [captured[layer] for layer in range(len(captured))]
    queries = torch.stack([query for query, _ in layers]).transpose(1, 2)
    keys = torch.stack([key for _, key in layers]).transpose(1, 2)
    return queries, keys


def changed(before: Tensor, after: Tensor) -> set[tuple[int, int]]:
    """The heads that changed; each must have changed in every one of its rows, or in none."""
    rows = (before != after).flatten(2, 3).any(2)  # [L, heads, D]
    assert torch.equal(rows.any(-1), rows.all(-1))
    return {(layer, head) for layer, head in rows.any(-1).nonzero().tolist()}


@torch.no_grad()
def with_noise(
    model: PreTrainedModel, rows: RowSlice, read: Callable[[PreTrainedModel], tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """What ``read`` gives while noise lies on the rows, which are restored afterwards."""
    weight = model.get_submodule(rows.module).weight
    old = weight.clone()
    weight[rows.start : rows.stop] += torch.randn(weight[rows.start : rows.stop].shape)
    try:
        return read(model)
    finally:
        weight.copy_(old)


@pytest.fixture
def model(family: str) -> PreTrainedModel:
    model = tiny.build_model(family)
    model.set_attn_implementation("nasalign_test_capture")
    return model


@pytest.mark.parametrize("kind", ["query", "key"])
def test_rows_change_the_query_of_their_head_or_the_key_of_their_group_alone(
    family: str, model: PreTrainedModel, kind: str
) -> None:
    geometry = HeadGeometry.of(model)
    before = reaching_attention(model)
    assert [part.shape[:2] for part in before] == [(3, 4), (3, geometry.groups)]
    # As transformers repeats the keys: those of group 0 for the first heads, then of group 1.
    groups = torch.arange(geometry.groups).repeat_interleave(geometry.heads // geometry.groups)
    own = {"query": list(range(4)), "key": groups.tolist()}[kind]
    for layer, head in product(range(3), range(4)):
        rows = getattr(geometry.rows(layer, head), kind)
        assert rows.stop - rows.start == geometry.head_size
        after = with_noise(model, rows, reaching_attention)
        moved = dict(zip(("query", "key"), map(changed, before, after), strict=True))
        heads = set(own) if family in NORM_OVER_HEADS else {own[head]}
        assert moved.pop(kind) == {(layer, other) for other in heads}
        assert list(moved.values()) == [set()]


def test_the_heads_are_counted_and_measured(family: str) -> None:
    model = tiny.build_model(family)
    geometry = HeadGeometry.of(model)
    wider = geometry.head_size > model.config.hidden_size // 4  # than its share
    assert wider == family.startswith(("gemma", "qwen3", "gpt_oss"))
    sizes = (geometry.heads, geometry.head_size, geometry.groups)
    assert sizes == (4, 16, 4 if family == "gpt_neox" else 2)
    layouts = {"phi3": "stacked", "gpt_neox": "interleaved"}
    assert geometry.layout == layouts.get(family, "separate")
    queries = {geometry.rows(layer, head).query for layer in range(3) for head in range(4)}
    keys = {geometry.rows(layer, head).key for layer in range(3) for head in range(4)}
    assert (len(queries), len(keys)) == (12, 3 * geometry.groups)
    assert queries & keys == set()


def test_one_group_for_all_heads_and_layers_beyond_nine() -> None:
    shape = tiny.SHAPE | {"num_hidden_layers": 11, "num_key_value_heads": 1, "hidden_size": 32}
    geometry = HeadGeometry.of(AutoModelForCausalLM.from_config(LlamaConfig(**shape)))
    assert geometry.groups == 1
    assert {geometry.rows(10, head).key for head in range(4)} == {
        RowSlice("model.layers.10.self_attn.k_proj", 0, 8)
    }
    assert [name.split(".")[2] for name in geometry.attention_modules] == [*map(str, range(11))]


@pytest.mark.parametrize(("layer", "head"), [(3, 0), (0, 4), (-1, 0), (0, -1)])
def test_a_head_out_of_range_is_an_error(layer: int, head: int) -> None:
    geometry = HeadGeometry.of(tiny.build_model("llama"))
    with pytest.raises(IndexError, match=rf"\({layer}, {head}\) among 3 x 4"):
        geometry.rows(layer, head)


UNSUPPORTED: dict[str, tuple[PretrainedConfig, str]] = {  # tests/test_families.py has the others
    "BartForCausalLM": (  # self-attention and cross-attention in each layer
        BartConfig(vocab_size=50, d_model=32, decoder_layers=2, decoder_attention_heads=4),
        "encoder",
    ),
    "GPTJForCausalLM": (
        GPTJConfig(vocab_size=50, n_embd=32, n_layer=2, n_head=4, rotary_dim=4),
        "AttentionInterface",
    ),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_an_architecture_that_does_not_fit_is_refused_by_name(name: str) -> None:
    config, reason = UNSUPPORTED[name]
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ModelError, match=rf"architecture {name} is not supported: .*{reason}"):
        HeadGeometry.of(model)


def test_projections_of_another_size_are_refused() -> None:
    """As Qwen3-Next, whose q_proj holds a gate beside the query."""
    model = tiny.build_model("llama")
    for layer in model.model.layers:
        layer.self_attn.q_proj = nn.Linear(64, 128, bias=False)
    with pytest.raises(ModelError, match=r"LlamaForCausalLM .*\b128, 32\b.* rows .*\b64, 32\b"):
        HeadGeometry.of(model)


def test_layers_that_differ_or_have_no_attention_are_refused() -> None:
    model = tiny.build_model("llama")
    attention = model.model.layers[1].self_attn
    attention.head_dim = 8
    attention.q_proj, attention.k_proj = nn.Linear(64, 32), nn.Linear(64, 16)
    with pytest.raises(ModelError, match=r"LlamaForCausalLM .* layers differ"):
        HeadGeometry.of(model)
    model.model.layers[1].self_attn = nn.Identity()
    with pytest.raises(ModelError, match=r"LlamaForCausalLM .* 2 of its 3 layers"):
        HeadGeometry.of(model)
