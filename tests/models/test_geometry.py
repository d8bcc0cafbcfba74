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
    BertConfig,
    BloomConfig,
    GPT2Config,
    GPTJConfig,
    LlamaConfig,
    MambaConfig,
    PretrainedConfig,
    PreTrainedModel,
)

import tiny
from nasalign.errors import ModelError
from nasalign.models.geometry import HeadGeometry, RowSlice

IDS = torch.arange(5, 17)[None]
NORM_OVER_HEADS = ("olmo2",)  # its q_norm and k_norm divide by the mean over all heads of the layer
SIZES = {  # heads, rows of a head, groups
    "gemma": (4, 16, 2),
    "gemma2": (4, 16, 2),
    "gemma3": (4, 16, 2),
    "qwen3": (4, 16, 2),
    "gpt_oss": (4, 16, 2),
    "gpt_neox": (4, 16, 4),
}
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


def test_the_query_rows_change_the_query_of_their_head_alone(
    family: str, model: PreTrainedModel
) -> None:
    geometry = HeadGeometry.of(model)
    queries, keys = reaching_attention(model)
    assert queries.shape[:2] == (geometry.layers, geometry.heads) == (3, 4)
    for layer, head in product(range(geometry.layers), range(geometry.heads)):
        rows = geometry.rows(layer, head).query
        assert rows.stop - rows.start == geometry.head_size
        new_queries, new_keys = with_noise(model, rows, reaching_attention)
        whole_layer = {(layer, other) for other in range(geometry.heads)}
        expected = whole_layer if family in NORM_OVER_HEADS else {(layer, head)}
        assert changed(queries, new_queries) == expected
        assert changed(keys, new_keys) == set()


def test_the_key_rows_change_the_key_of_their_group_alone(
    family: str, model: PreTrainedModel
) -> None:
    geometry = HeadGeometry.of(model)
    queries, keys = reaching_attention(model)
    assert keys.shape[:2] == (geometry.layers, geometry.groups)
    for layer, head in product(range(geometry.layers), range(geometry.heads)):
        rows = geometry.rows(layer, head).key
        assert rows.stop - rows.start == geometry.head_size
        new_queries, new_keys = with_noise(model, rows, reaching_attention)
        # As transformers repeats the keys: those of group 0 for the first heads, then of group 1.
        group = torch.arange(geometry.groups).repeat_interleave(geometry.heads // geometry.groups)
        whole_layer = {(layer, other) for other in range(geometry.groups)}
        expected = whole_layer if family in NORM_OVER_HEADS else {(layer, int(group[head]))}
        assert changed(keys, new_keys) == expected
        assert changed(queries, new_queries) == set()


def test_the_heads_are_counted_and_measured(family: str) -> None:
    geometry = HeadGeometry.of(tiny.build_model(family))
    sizes = (geometry.heads, geometry.head_size, geometry.groups)
    assert sizes == SIZES.get(family, (4, 16, 2))
    layouts = {"phi3": "stacked", "gpt_neox": "interleaved"}
    assert geometry.layout == layouts.get(family, "separate")
    queries = {geometry.rows(layer, head).query for layer in range(3) for head in range(4)}
    keys = {geometry.rows(layer, head).key for layer in range(3) for head in range(4)}
    assert (len(queries), len(keys)) == (12, 3 * geometry.groups)
    assert queries & keys == set()


def test_a_head_may_be_wider_than_its_share() -> None:
    model = tiny.build_model("gemma")
    assert model.config.hidden_size // model.config.num_attention_heads == 12
    assert HeadGeometry.of(model).head_size == 16


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


SMALL: dict[str, Any] = {"vocab_size": 50, "hidden_size": 32, "bos_token_id": 1, "eos_token_id": 2}
DEPTH: dict[str, Any] = SMALL | {"num_hidden_layers": 2, "num_attention_heads": 4}
UNSUPPORTED: dict[str, tuple[PretrainedConfig, str]] = {
    "GPT2LMHeadModel": (  # Conv1D, whose weight is [in, out]
        GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2),
        "Conv1D",
    ),
    "BertLMHeadModel": (
        BertConfig(**DEPTH, intermediate_size=32, is_decoder=True),
        "none of its layers",
    ),
    "BartForCausalLM": (  # self-attention and cross-attention in each layer
        BartConfig(vocab_size=50, d_model=32, decoder_layers=2, decoder_attention_heads=4),
        "encoder",
    ),
    "BloomForCausalLM": (BloomConfig(**SMALL, n_layer=2, n_head=4), "AttentionInterface"),
    "GPTJForCausalLM": (
        GPTJConfig(vocab_size=50, n_embd=32, n_layer=2, n_head=4, rotary_dim=4),
        "AttentionInterface",
    ),
    "MambaForCausalLM": (MambaConfig(**SMALL, num_hidden_layers=2), "no attention heads"),
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


def test_layers_that_differ_are_refused() -> None:
    model = tiny.build_model("llama")
    attention = model.model.layers[1].self_attn
    attention.head_dim = 8
    attention.q_proj, attention.k_proj = nn.Linear(64, 32), nn.Linear(64, 16)
    with pytest.raises(ModelError, match=r"LlamaForCausalLM .* layers differ"):
        HeadGeometry.of(model)


def test_a_layer_without_attention_is_refused() -> None:
    model = tiny.build_model("llama")
    model.model.layers[1].self_attn = nn.Identity()
    with pytest.raises(ModelError, match=r"LlamaForCausalLM .* 2 of its 3 layers"):
        HeadGeometry.of(model)
