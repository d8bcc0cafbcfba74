"""The rows of a head are those, and only those, that make its query and its group's key."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoModelForCausalLM,
    BartConfig,
    GPTJConfig,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.masking_utils import eager_mask

import architectures
import tiny
from nasalign.errors import ModelError
from nasalign.models.geometry import HeadGeometry, check_supported
from nasalign.models.head_layouts import RowSlice, weight_of

Place = tuple[int, int]
IDS = torch.arange(5, 17)[None]
NORM_OVER_HEADS = ("olmo2",)  # its q_norm and k_norm divide by the mean over all heads of the layer
captured: dict[int, tuple[Tensor, ...]] = {}


def capture(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any
) -> tuple[Tensor, None]:
    """Keeps query, key and value, and gives out what depends on none of them.

    So a change in one layer does not reach the next.
    """
    captured[id(module)] = (query.clone(), key.clone(), value.clone())
    repeats = query.shape[1] // value.shape[1]
    given = torch.ones_like(value.repeat_interleave(repeats, dim=1))
    return given.transpose(1, 2).contiguous(), None


AttentionInterface.register("nasalign_test_capture", capture)
AttentionMaskInterface.register("nasalign_test_capture", eager_mask)

Reaching = dict[int, tuple[Tensor, ...]]
"""By layer, queries [B, heads, T, D], keys and values [B, groups, T, D] that reach attention."""


@torch.no_grad()
def reaching_attention(model: PreTrainedModel, geometry: HeadGeometry) -> Reaching:
    captured.clear()
    model(input_ids=IDS, use_cache=False)
    modules = geometry.modules.items()
    return {layer: captured[id(model.get_submodule(name))] for layer, name in modules}


def changed(before: Reaching, after: Reaching, side: int, layers: list[int]) -> set[Place]:
    """The heads, or groups, of some layers that changed."""
    return {
        (layer, place)
        for layer in layers
        for place in range(before[layer][side].shape[1])
        if not torch.equal(before[layer][side][:, place], after[layer][side][:, place])
    }


def check_rows(model: PreTrainedModel, over_heads: bool = False) -> None:
    """The rows of each head change its query, or its group's key or value, and nothing else.

    Rows that layers share are seen in the first of them, since they change what enters the others.
    With ``over_heads``, a norm over all heads of the layer changes them all.
    """
    model.set_attn_implementation("nasalign_test_capture")
    geometry = HeadGeometry.of(model)
    before = reaching_attention(model, geometry)
    for layer, head in geometry.places:
        own = geometry.attention[layer]
        assert own
        query, key, _ = before[layer]
        assert (query.shape[1], key.shape[1], query.shape[3]) == (
            *(own.heads, own.groups, own.head_size),
        )
        # As transformers repeats the keys: those of group 0 for the first heads, then of group 1.
        group, first = head // (own.heads // own.groups), geometry.firsts[layer]
        places = head, group, group
        rows = geometry.rows(layer, head)
        for side, where in enumerate((rows.query, rows.key, rows.value)):
            if where is None:
                continue
            after = with_noise(model, where, partial(reaching_attention, model, geometry))
            moved = [changed(before, after, kind, [first]) for kind in (0, 1, 2)]
            everyone = {(first, place) for place in range(before[first][side].shape[1])}
            over = over_heads and side < 2
            assert moved.pop(side) == (everyone if over else {(first, places[side])})
            assert moved == [set(), set()]


@torch.no_grad()
def with_noise(model: PreTrainedModel, rows: RowSlice, read: Callable[[], Reaching]) -> Reaching:
    """What ``read`` gives while noise lies on the rows, which are restored afterwards."""
    weight = weight_of(model, rows.module)
    old = weight.clone()
    weight[rows.start : rows.stop] += torch.randn(weight[rows.start : rows.stop].shape)
    try:
        return read()
    finally:
        weight.copy_(old)


def test_rows_change_the_query_of_their_head_or_the_key_of_their_group_alone(family: str) -> None:
    check_rows(tiny.build_model(family), family in NORM_OVER_HEADS)


@pytest.mark.parametrize("name", architectures.TYPES)
def test_so_they_do_in_other_architectures(name: str) -> None:
    check_rows(architectures.build(name))


def test_the_heads_are_counted_and_measured(family: str) -> None:
    model = tiny.build_model(family)
    geometry = HeadGeometry.of(model)
    own = geometry.attention[0]
    assert own
    assert geometry.places == [(layer, head) for layer in range(3) for head in range(4)]
    wider = own.head_size > model.config.hidden_size // 4  # than its share
    assert wider == family.startswith(("gemma", "qwen3", "gpt_oss"))
    assert (own.heads, own.head_size, own.groups) == (4, 16, 4 if family == "gpt_neox" else 2)
    layouts = {"phi3": "stacked", "gpt_neox": "interleaved"}
    assert own.layout == layouts.get(family, "separate")
    queries = {geometry.rows(*place).query for place in geometry.places}
    keys = {geometry.rows(*place).key for place in geometry.places}
    assert (len(queries), len(keys)) == (12, 3 * own.groups)
    assert queries & keys == set()


SIZES = {  # by layer: layout, heads, rows of a head, groups
    "gpt2": [("stacked", 4, 16, 4)] * 3,
    "gpt_bigcode": [("stacked", 4, 16, 1)] * 3,
    "deepseek_v3": [("latent", 4, 24, 4)] * 3,
    "longcat_flash": [("latent", 4, 24, 4)] * 4,
    "qwen3_next": [None, ("gated", 4, 16, 2), None],
    "granitemoehybrid": [None, ("separate", 4, 16, 2), None],
    "inkling": [("separate", 6, 8, 3), ("separate", 4, 16, 2), ("separate", 4, 16, 2)],
    "gemma4": [("separate", 4, 16, 2), ("separate", 4, 32, 2), ("separate", 4, 32, 2)],
    "mllama": [("separate", 4, 16, 2), None, ("separate", 4, 16, 2)],
}


@pytest.mark.parametrize("name", SIZES)
def test_layers_differ_in_heads_or_have_none(name: str) -> None:
    geometry = HeadGeometry.of(architectures.build(name))
    found = [
        own and (own.layout, own.heads, own.head_size, own.groups) for own in geometry.attention
    ]
    assert found == SIZES[name]
    blank = geometry.blank()
    assert blank.shape == (len(found), 6 if name == "inkling" else 4)
    expected = [layer for layer, own in enumerate(found) if own for _ in range(own[1])]
    assert [layer for layer, _ in geometry.places] == expected
    assert (~blank.isnan()).nonzero().tolist() == [list(place) for place in geometry.places]


def test_a_layer_with_the_keys_of_an_earlier_one_has_query_rows_alone() -> None:
    geometry = HeadGeometry.of(architectures.build("gemma3n"))
    keys = [geometry.rows(layer, 0).key is None for layer in range(4)]
    assert keys == [False, False, True, True]
    assert geometry.firsts == (0, 1, 2, 3)


def test_layers_with_the_same_weights_have_the_rows_of_the_first() -> None:
    geometry = HeadGeometry.of(architectures.build("zamba2"))
    assert geometry.firsts == (0, 1, 2, 1)
    assert geometry.rows(3, 2) == geometry.rows(1, 2)
    assert geometry.modules.keys() == {1, 3}


def test_one_group_for_all_heads_and_layers_beyond_nine() -> None:
    shape = tiny.SHAPE | {"num_hidden_layers": 11, "num_key_value_heads": 1, "hidden_size": 32}
    geometry = HeadGeometry.of(AutoModelForCausalLM.from_config(LlamaConfig(**shape)))
    assert {geometry.rows(10, head).key for head in range(4)} == {
        RowSlice("model.layers.10.self_attn.k_proj", 0, 8)
    }
    assert [name.split(".")[2] for name in geometry.blocks] == [*map(str, range(11))]


@pytest.mark.parametrize(("layer", "head"), [(3, 0), (0, 4), (-1, 0), (0, -1)])
def test_a_head_out_of_range_is_an_error(layer: int, head: int) -> None:
    geometry = HeadGeometry.of(tiny.build_model("llama"))
    with pytest.raises(IndexError, match=rf"\({layer}, {head}\) among 3 x 4"):
        geometry.rows(layer, head)


UNSUPPORTED: dict[str, tuple[PretrainedConfig, str]] = {  # tests/sweep.py has the others
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
    model = tiny.build_model("llama")
    for layer in model.model.layers:
        layer.self_attn.q_proj = nn.Linear(64, 96, bias=False)
    with pytest.raises(ModelError, match=r"LlamaForCausalLM .*\b96, 32\b.* rows .*\b64, 32\b"):
        HeadGeometry.of(model)


def test_a_layer_whose_projections_are_not_known_is_refused() -> None:
    model = tiny.build_model("llama")
    del model.model.layers[1].self_attn.k_proj
    with pytest.raises(ModelError, match=r"LlamaForCausalLM .* only 2 of its 3 layers"):
        HeadGeometry.of(model)


REASONS = {  # of a type by its default configuration
    "DeepseekV4Config": "an indexer picks",
    "HrmTextConfig": "in 2 stacks of layers",
    "JetMoeConfig": "none of its 12 layers have q and k projections",
    "BloomConfig": "AttentionInterface",
    "BertConfig": "not causal",
    "MambaConfig": "no attention heads",
}


@pytest.mark.parametrize("kind", REASONS)
def test_what_eq_1_cannot_be_read_from_is_refused_by_the_configuration(kind: str) -> None:
    with pytest.raises(ModelError, match=rf"is not supported: .*{REASONS[kind]}"):
        check_supported(getattr(transformers, kind)())
