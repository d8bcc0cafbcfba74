"""A tiny configuration of any model type that transformers names, by rules over its attributes.

The default configuration of a type is written as a dictionary, its numbers are reduced by what
their names say, and the result is read back. All widths are the same, so that what one part hands
to another fits. Of layers of several kinds, one of each kind is left, with all lists that have an
entry for each layer.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PretrainedConfig

VOCABULARY = 640
"""Tokens of a tiny model: those of `tiny.build_tokenizer`, and placeholders of other media."""
WIDTH = 64
LAYERS = 2  # at least
MOST = 5  # layers at most

_LAYER_COUNT = re.compile(
    r"(num_hidden|n|num|encoder|decoder|num_encoder|num_decoder)_?layers?|layers|depth|num_blocks"
)
RULES: tuple[tuple[str, int], ...] = (  # the first pattern that fits a name counts
    (r"num_channels|in_channels|type_vocab_size|.*multiplier|.*_interval|.*_every.*|hc_mult", 0),
    (r"upsample_groups", 16),
    (r"index_n_heads", 32),  # with few of them, many scores of an indexer are 0, and so alike
    (r"index_block_size|index_topk_blocks", 4),
    (r"codebook_size|\w*img_size|\w*_channels?|seq_length", 32),
    (r".*vocab_size.*|.*_vocab|num_embeds|num_embeddings|num_centroids", VOCABULARY),
    (r"(\w+_)?(num_key_value_heads|num_kv_heads|linear_num_key_heads)|num_query_groups", 2),
    (r"(\w+_)?(num_\w*heads|n_\w*heads?|n_head|attention_heads)|num_heads", 4),
    (r"mamba_(d_head|head_dim|headdim)", 32),
    (r"qk_head_dim", 24),
    (r"qk_rope_head_dim|rotary_dim", 8),
    (r"(\w+_)?(head_dim|head_size|dim_head|d_head)|kv_channels|d_kv|query_pre_attn_scalar", 16),
    (r"q_lora_rank", 24),
    (r"\w*lora_rank|\w+_rank", 32),
    (r"(num|n)_\w*shared_experts|first_k_dense_replace|topk_group|num_dense_layers", 1),
    (r"(\w+_)?(num|n)_(\w+_)?experts|zero_expert_num", 4),
    (r"num_experts_per_tok(en)?|moe_topk|moe_k|top_k|n_group|num_expert_group|o_groups", 2),
    (r"(mamba_d_state|state_size|ssm_state_size)", 8),
    (r"n_groups|mamba_n_groups|num_groups", 2),
    (r"\w*chunk_size|index_topk", 16),
    (r"(\w+_)?(sliding_)?window(_size|_len)?|local_attention|keep_window_size|context_size", 8),
    (r"patch_size|temporal_patch_size", 4),
    (r"(\w+_)?image_size|crop_size|resolution|scale", 16),
    (r"(max|n)_\w*(positions?|position_embeddings|seq_len\w*|ctx)|seq_len|\w*max_length", 512),
    (r"num_position_embeddings|\w*_pos_emb\w*|pos_emb_\w+", 16),
    (
        r"hidden_size_\w+|(\w+_)?\w*(hidden_size|lru_width|hidden_dim|_dim|_dims|embd?|d_model|dim|d_ff|dff|d_inner)",
        WIDTH,
    ),
    (
        r"(\w+_)?\w*(intermediate_size|input_size|ffn_dim|ff|size_mlp|output_size|ffn_hidden_size)",
        WIDTH,
    ),
)
_RULES = [(re.compile(pattern), size) for pattern, size in RULES]


def tiny_config(model_type: str) -> PretrainedConfig:
    """The tiny configuration of a model type."""
    from transformers import CONFIG_MAPPING

    kind = CONFIG_MAPPING[model_type]
    values = reduced(kind(**UNBUILT.get(model_type, {})).to_dict())
    for path, value in EXCEPTIONS.get(model_type, {}).items():
        *parts, name = path.split(".")
        inner = values
        for part in parts:
            inner = inner[part]
        inner[name] = copy.deepcopy(value)
    return kind.from_dict(values)


def reduced(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a configuration with small numbers, nested configurations too."""
    default = dict(values)
    values = _with_few_layers(values)
    for name, value in values.items():
        if isinstance(value, dict) and "model_type" in value:
            values[name] = reduced(value)
        elif name in ("rope_parameters", "rope_scaling") and isinstance(value, dict):
            values[name] = _rope(value, values)
        elif re.search(r"(_token_id|_token_index|_token_ids|_id)$", name):
            values[name] = _token(name, value)
        elif isinstance(value, int) and not isinstance(value, bool):
            values[name] = _small(name, value)
        elif isinstance(value, list) and value and all(type(one) is int for one in value):
            values[name] = [_small(name, one) for one in value]
        elif name == "initializer_range" or name == "init_std":
            values[name] = WIDTH**-0.5
    if "head_dim" in values and values["head_dim"] is None:
        values["head_dim"] = 16
    groups, heads = (default.get(f"num_{of}_heads") for of in ("key_value", "attention"))
    if groups and groups == heads and "vocab_size" not in values:  # of images or sound
        values["num_key_value_heads"] = values["num_attention_heads"]
    if values.get("qk_rope_head_dim") is not None:
        _latent(values, default)
    for layer in values.get("per_layer_config", {}).values():
        for name, value in layer.items():  # as much larger or smaller as it was
            if default.get(name):
                layer[name] = max(values[name] * value // default[name], 1)
    return values


def _latent(values: dict[str, Any], default: dict[str, Any]) -> None:
    """Sizes of a head with a rotated part and one that is not (MLA), as equal as they were."""
    parts = ("qk_nope_head_dim", "qk_rope_head_dim")
    if default.get(parts[0]) == default[parts[1]]:
        values[parts[0]] = values[parts[1]]
    if values.get("qk_head_dim"):
        values["qk_head_dim"] = sum(values[part] for part in parts)
    if values.get("num_key_value_heads"):
        values["num_key_value_heads"] = values["num_attention_heads"]
    for part in ("qk_head_dim", "v_head_dim", *parts):
        if default.get("head_dim") and default["head_dim"] == default.get(part):
            values["head_dim"] = values[part]


def _small(name: str, value: int) -> int:
    most = next((size for rule, size in _RULES if rule.fullmatch(name)), 0)
    return min(value, most) if most else value


def _token(name: str, value: Any) -> Any:
    """A token id below the vocabulary: those of the tokenizer, or one of the placeholders."""
    known = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    if isinstance(value, list):
        return [_token(name, one) for one in value]
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        return value
    return known.get(name, 600 + sum(map(ord, name)) % 40)


def _rope(value: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Rotary parameters whose sections add up to half of the rotated part of a small head."""
    value = {
        name: _rope(one, values) if isinstance(one, dict) else one for name, one in value.items()
    }
    section = value.get("mrope_section")
    if section:
        half = 16 * value.get("partial_rotary_factor", 1.0) / 2
        few = [int(one * half / sum(section)) for one in section]
        few[0] += int(half) - sum(few)
        value["mrope_section"] = few
    if value.get("original_max_position_embeddings"):
        value["original_max_position_embeddings"] = 256
    return value


def _with_few_layers(values: dict[str, Any]) -> dict[str, Any]:
    """One layer of each kind: the kind of a layer is its entries in all lists of that length."""
    counts = {name: values[name] for name in values if _LAYER_COUNT.fullmatch(name)}
    for name, count in counts.items():
        if not isinstance(count, int) or count < 2:
            continue
        lists = {key: _by_layer(key, value, count) for key, value in values.items()}
        lists = {key: value for key, value in lists.items() if value}
        chosen = list(_kinds(list(lists.values()), count))
        values[name] = len(chosen)
        for key, value in lists.items():
            few = [value[layer] for layer in chosen]
            if key == "per_layer_config":
                values[key] = {str(layer): one for layer, one in enumerate(few) if one}
            elif key in INDICES:
                values[key] = [layer for layer, one in enumerate(few) if one]
            elif key in FIRST + LAST:
                values[key] = sum(few)
            else:
                values[key] = few
    return values


def _by_layer(name: str, value: Any, count: int) -> list[Any]:
    """The entries of each layer, empty if the value has none."""
    if name in FIRST and value:
        return [layer < value for layer in range(count)]
    if name in LAST and value:
        return [layer >= count - value for layer in range(count)]
    if not value or not isinstance(value, list | dict):
        return []
    if name == "per_layer_config":
        return [value.get(f"{layer:02}", value.get(str(layer))) for layer in range(count)]
    if name in INDICES:
        return [layer in value for layer in range(count)]
    return value if isinstance(value, list) and len(value) == count else []


def _kinds(lists: list[list[Any]], count: int) -> Iterator[int]:
    first: dict[str, int] = {}
    for layer in range(count):
        first.setdefault(str([value[layer] for value in lists]), layer)
    few = sorted(first.values())[:MOST]
    rest = [layer for layer in range(count) if layer not in few]
    yield from sorted(few + rest[: max(LAYERS - len(few), 0)])


INDICES = (
    *("moe_layers", "full_attn_idxs", "cross_attention_layers", "hybrid_layer_ids"),
    *("mlp_only_layers", "rope_scaling_layers", "kda_layers", "full_attn_layers"),
)
"""Names of lists of layers."""
FIRST = ("first_k_dense_replace", "num_dense_layers")
LAST = ("num_kv_shared_layers",)
"""Numbers of the first and the last layers that are of another kind."""

UNBUILT: dict[str, dict[str, Any]] = {
    "gemma4_assistant": {
        "text_config": {
            "model_type": "gemma4_text",
            "hidden_size_per_layer_input": 0,
            "vocab_size_per_layer_input": 0,
        }
    }
}
"""Arguments of configurations that cannot be built without any."""
_SECTIONS = {"text_config.rope_parameters.mrope_section": [2, 3, 3]}  # 8, half of a head
_FULL = {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}
_INDEXER = {"indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 16}
_INDEXER |= {"indexer_budget": 8, "indexer_compress_ratio": 2}
_FEW_CONVOLUTIONS = {"num_filters": 4, "downsampling_ratios": [2, 2], "depths": [1, 1, 1]}
_SHARED = {  # two layers with the same attention
    "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
    "num_hidden_layers": 4,
    "attention_head_dim": 32,
    "attention_hidden_size": 128,
}
EXCEPTIONS: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1], "num_hidden_layers": 3},
    "bailing_hybrid": {"num_experts": 8, "n_group": 2},
    "chameleon": {"vocabulary_map": {"<image>": 600}},
    "cohere_compass": {"text_config.rope_parameters": _FULL},
    "cohere_compass_text": {"rope_parameters": _FULL},
    "dbrx": {"attn_config.rope_theta": 1e4, "attn_config.clip_qkv": 8.0},
    "deepseek_ocr2": {
        "text_config.num_experts_per_tok": 2,
        "text_config.mlp_layer_types": ["dense", "sparse"],
    },
    "deepseek_v2": {"num_experts_per_tok": 2},
    "diffusion_gemma": {
        "text_config.num_experts": 4,
        "text_config.top_k_experts": 2,
        "text_config.moe_intermediate_size": 64,
    },
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "dots3_note": {
        "text_config.head_dim": 32,
        "text_config.qk_nope_head_dim": 24,
    },
    "dots3_note_text": {"head_dim": 32, "qk_nope_head_dim": 24},
    "emu3": {"vocabulary_map": {"<image>": 600, "<|extra_200|>": 601}},
    "ernie4_5_vl_moe": {"text_config.rope_parameters.mrope_section": [3, 3, 2]},
    "falcon_h1": {"mamba_d_ssm": 128, "mamba_d_head": 32},
    "fun_asr_nano": {"adaptor_config.intermediate_size": 16},
    "glm46v": _SECTIONS,
    "glm4v": _SECTIONS,
    "glm4v_moe": {"text_config.rope_parameters.mrope_section": [1, 1, 2]},
    "glm_ocr": _SECTIONS,
    "glmga": _SECTIONS,
    "granite4_vision": {"deepstack_layer_map": [[0, 0]], "downsample_rate": "1/2"},
    "granitemoehybrid": {
        "layer_types": ["linear_attention", "full_attention", "linear_attention"],
        "num_hidden_layers": 3,
    },
    "hunyuan_vl": {"text_config.rope_parameters.mrope_section": [2, 2, 2, 2]},
    "jamba": {"attn_layer_offset": 1, "attn_layer_period": 2, "num_hidden_layers": 4},
    "janus": {"vq_config.channel_multiplier": [1]},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv"], "num_hidden_layers": 3},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"head_dim": 32},
    "molmo2": {"adapter_config.vision_feature_layer": [1, 0]},
    "muse_spark": {
        "audio_config.hidden_sizes": [16, 16, 16, 64],
        "audio_config.depths": [1, 1, 1, 1],
    },
    "nemo_speechlm": {
        "text_config.layers_block_type": ["linear_attention", "moe", "full_attention"],
        "word_timestamp_config.num_key_value_heads": 4,
    },
    "nemotron": {"num_key_value_heads": 2},
    "paddleocr_vl": _SECTIONS,
    "qwen2_5_omni_thinker": _SECTIONS | {"vision_start_token_id": 601},
    "qwen2_5_vl": _SECTIONS,
    "qwen2_vl": _SECTIONS,
    "qwen3_omni_moe_thinker": {"vision_start_token_id": 601},
    "qwen4_exp": {f"text_config.{name}": value for name, value in _INDEXER.items()},
    "qwen4_exp_text": _INDEXER,
    "recurrent_gemma": {"num_hidden_layers": 3},
    "reformer": {
        "is_decoder": True,
        "axial_pos_embds_dim": [16, 48],
        "axial_pos_shape": [16, 32],
    },
    "step3p7": {
        "text_config.sliding_window": 8,
        "text_config.rope_parameters.sliding_attention": _FULL["full_attention"],
    },
    "unlimited_ocr": {"text_config.num_key_value_heads": 4},  # its eager attention repeats no keys
    "vibevoice_asr": {
        f"{of}_tokenizer_encoder_config.{name}": value
        for of in ("acoustic", "semantic")
        for name, value in _FEW_CONVOLUTIONS.items()
    },
    "xmod": {"default_language": "en_XX"},
    "zamba": _SHARED,
    "zamba2": _SHARED | {"hybrid_layer_ids": [1, 3]},
}
"""Values that no rule gives: most are unset by default, or bound to another value."""
