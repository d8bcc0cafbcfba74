"""Tiny models of architectures whose attention is unlike Llama's, with random weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

import tiny

LATENT = tiny.SHAPE | {
    **{"num_key_value_heads": 4, "q_lora_rank": 24, "kv_lora_rank": 32, "qk_rope_head_dim": 8},
    **{"qk_nope_head_dim": 16, "v_head_dim": 12, "moe_intermediate_size": 32, "n_group": 1},
    **{"topk_group": 1, "n_routed_experts": 4, "num_experts_per_tok": 2},
}
GPT = {"vocab_size": 600, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 512}
DELTA = {
    **{"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16},
    **{"linear_value_head_dim": 16, "head_dim": 16},
}
MAMBA = {
    **{"mamba_d_state": 8, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_n_heads": 8},
    **{"mamba_d_head": 16, "mamba_n_groups": 1, "mamba_chunk_size": 16},
}
MIXED = ["linear_attention", "full_attention", "linear_attention"]
TYPES: dict[str, tuple[str, dict[str, Any]]] = {  # class and values of the configuration
    "gpt2": ("GPT2Config", GPT),
    "gpt_bigcode": ("GPTBigCodeConfig", GPT | {"multi_query": True}),
    "gpt_bigcode of many keys": ("GPTBigCodeConfig", GPT | {"multi_query": False}),
    "ctrl": ("CTRLConfig", GPT | {"dff": 96}),
    "persimmon": ("PersimmonConfig", tiny.SHAPE),
    "deepseek_v3": ("DeepseekV3Config", LATENT),
    "deepseek_v2, no rank of queries": ("DeepseekV2Config", LATENT | {"q_lora_rank": None}),
    "longcat_flash": (  # two attention modules in each of its layers
        "LongcatFlashConfig",
        LATENT
        | {"num_hidden_layers": 4, "ffn_hidden_size": 64, "expert_ffn_hidden_size": 32}
        | {"head_dim": 8, "moe_topk": 2, "zero_expert_num": 2},
    ),
    "qwen3_next": (
        "Qwen3NextConfig",
        tiny.GROUPED | DELTA | {"num_experts": 0, "layer_types": MIXED},
    ),
    "qwen3_5": ("Qwen3_5TextConfig", tiny.GROUPED | DELTA | {"layer_types": MIXED}),
    "granitemoehybrid": (
        "GraniteMoeHybridConfig",
        tiny.GROUPED | MAMBA | {"layer_types": MIXED, "num_local_experts": 0},
    ),
    "bamba": (
        "BambaConfig",
        tiny.GROUPED | MAMBA | {"attn_layer_indices": [1]},
    ),
    "falcon_h1": (  # attention and a state space in each layer
        "FalconH1Config",
        tiny.GROUPED | MAMBA | {"mamba_d_ssm": 128, "mamba_expand": 2},
    ),
    "inkling": (  # a bias by distance in the scores, more heads in layers with a window
        "InklingTextConfig",
        tiny.GROUPED
        | {"head_dim": 16, "d_rel": 8, "rel_extent": 64, "sliding_window_size": 16}
        | {"swa_num_attention_heads": 6, "swa_num_key_value_heads": 3, "swa_head_dim": 8}
        | {"layer_types": ["hybrid_sliding", "hybrid", "hybrid"], "moe_intermediate_size": 32}
        | {"mlp_layer_types": ["dense"] * 3, "logits_mup_width_multiplier": 1.0},
    ),
    "minimax": (
        "MiniMaxConfig",
        tiny.GROUPED | {"layer_types": MIXED, "block_size": 16, "head_dim": 16} | tiny.EXPERTS,
    ),
    "zamba2": (  # both attention layers have the same weights
        "Zamba2Config",
        tiny.GROUPED
        | {"layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"], "num_hidden_layers": 4}
        | {"num_mem_blocks": 1, "adapter_rank": 8, "mamba_ngroups": 1, "n_mamba_heads": 8}
        | {"mamba_headdim": 16, "mamba_d_state": 8, "chunk_size": 16},
    ),
    "gemma3n": (  # the last two layers take the keys of earlier ones
        "Gemma3nTextConfig",
        tiny.WIDE_HEADS
        | {"num_hidden_layers": 4, "layer_types": ["sliding_attention", "full_attention"] * 2}
        | {"num_kv_shared_layers": 2, "sliding_window": 8, "hidden_size_per_layer_input": 8}
        | {"vocab_size_per_layer_input": 600, "laurel_rank": 8, "intermediate_size": [96] * 4}
        | {"activation_sparsity_pattern": [0.0] * 4},
    ),
    "gemma4": (  # wider heads, fewer of keys, in layers without a window
        "Gemma4TextConfig",
        tiny.WINDOWED
        | {"num_global_key_value_heads": 1, "global_head_dim": 32, "num_kv_shared_layers": 0}
        | {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 600},
    ),
    "mllama": (  # a layer of attention to images, which is left out without one
        "MllamaConfig",
        {
            "text_config": tiny.GROUPED
            | {"num_hidden_layers": 3, "cross_attention_layers": [1]}
            | {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
        },
    ),
}


def config(name: str) -> PretrainedConfig:
    """The tiny configuration of an architecture."""
    kind, values = TYPES[name]
    built: PretrainedConfig = getattr(transformers, kind)(**copy.deepcopy(values))
    return built


def build(name: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Build a model on the CPU, whose attention scores are not small."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config(name), dtype=torch.float32)
    if model._can_set_experts_implementation():
        model.set_experts_implementation("eager")  # the grouped kernel cannot take float64
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=1.5 * parameter.shape[-1] ** -0.5)
            elif not parameter.isfinite().all():
                parameter.fill_(0.5)
    return model.to(dtype).requires_grad_(False).eval()
