"""Tiny models and tokenizers, built in code from their config classes: no download, no files.

The weights are random but not small. Attention scores have a standard deviation of about 1.5,
biases and attention sinks are filled, and the sliding windows and soft caps bite at the length of a
prompt, so that a mistake in any of them changes the attention visibly.
"""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

if TYPE_CHECKING:  # else where they are used: importing them takes longer than most test files
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

VOCABULARY = 600
SPECIAL_TOKENS = ("<pad>", "<s>", "<|im_end|>", "<|im_start|>", "<unk>")  # their ids are 0 to 4
SCORE_STD = 1.5  # of the attention scores before the softmax

SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = SHAPE | {"num_key_value_heads": 2}
WIDE_HEADS = GROUPED | {"hidden_size": 48, "head_dim": 16}  # 4 * 16 is not 48
MIXED_LAYERS = ["sliding_attention", "full_attention", "sliding_attention"]
WINDOWED = WIDE_HEADS | {"sliding_window": 8, "layer_types": MIXED_LAYERS}
SHORT_WINDOWS = {"mistral", "gemma2", "gemma3", "gpt_oss", "cohere2", "olmo3"}
"""Families whose windows are shorter than a prompt."""
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {  # class and values of the configuration
    "llama": ("LlamaConfig", GROUPED),
    "mistral": ("MistralConfig", GROUPED | {"sliding_window": 8}),
    "gemma": ("GemmaConfig", WIDE_HEADS),
    "gemma2": (
        "Gemma2Config",
        WINDOWED
        | {"query_pre_attn_scalar": 16, "attn_logit_softcapping": 2.0}
        | {"final_logit_softcapping": 5.0},
    ),
    "gemma3": ("Gemma3TextConfig", WINDOWED | {"query_pre_attn_scalar": 16}),
    "qwen2": ("Qwen2Config", GROUPED),
    "qwen3": ("Qwen3Config", WIDE_HEADS),
    "phi3": ("Phi3Config", GROUPED),
    "gpt_neox": ("GPTNeoXConfig", SHAPE),  # has no grouped-query attention
    "gpt_oss": (
        "GptOssConfig",
        WINDOWED | EXPERTS | {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
    ),
    "mixtral": ("MixtralConfig", GROUPED | EXPERTS),
    "olmo2": ("Olmo2Config", GROUPED),
    "qwen3_moe": (
        "Qwen3MoeConfig",
        WIDE_HEADS | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 96},
    ),
    "smollm3": ("SmolLM3Config", GROUPED | {"no_rope_layers": [1, 0, 1]}),
    "granite": (
        "GraniteConfig",
        GROUPED
        | {"attention_multiplier": 0.35, "embedding_multiplier": 3.0}  # not 16 ** -0.5
        | {"residual_multiplier": 0.6, "logits_scaling": 0.5},
    ),
    "cohere": ("CohereConfig", GROUPED | {"use_qk_norm": True, "logit_scale": 2.0}),
    "cohere2": (  # no positions in the layers without a window
        "Cohere2Config",
        GROUPED | {"sliding_window": 8, "layer_types": MIXED_LAYERS, "logit_scale": 2.0},
    ),
}

MIXTURES = ("gpt_oss", "mixtral", "qwen3_moe")
"""The families whose feed-forward layers are mixtures of experts."""


def build_config(family: str) -> PretrainedConfig:
    """The configuration of a family's tiny model."""
    import transformers

    name, values = FAMILIES[family]
    return getattr(transformers, name)(**copy.deepcopy(values))


def build_model(
    family: str, *, dtype: torch.dtype | None = None, seed: int = 0, layers: int | None = None
) -> PreTrainedModel:
    """Build a model of a family on the CPU, in evaluation mode.

    The global random state is left as it was. The attention implementation is the one transformers
    chooses: `sdpa`, or `eager` for Gemma 2 and GPT-OSS. Mixtures of experts run as a plain loop, as
    the grouped kernel cannot take float64.

    Args:
        family: A key of `FAMILIES`.
        dtype: Type of all parameters, float32 unless given. They are drawn in float32, so every
            type has the same values.
        seed: Seed of the random weights.
        layers: Number of layers; three unless given, and for the families with two kinds of layer.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = build_config(family)
    config.num_hidden_layers = layers or config.num_hidden_layers
    with torch.random.fork_rng(devices=[]):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    if family in MIXTURES:
        model.set_experts_implementation("eager")
    with torch.no_grad():
        _fill(model, torch.Generator().manual_seed(seed))
    return model.to(dtype or torch.float32).eval()


def state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of all weights and buffers."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def same(before: dict[str, torch.Tensor], model: torch.nn.Module) -> bool:
    """Whether a model holds to the bit what `state` copied."""
    after = model.state_dict()
    return list(before) == list(after) and all(
        bool((before[name] == after[name]).all()) for name in before
    )


def save(folder: Path, family: str = "llama", **how: Any) -> Path:
    """Write a model, built as `how` says, and its tokenizer into a folder, and return that."""
    build_model(family, **how).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


def _fill(model: PreTrainedModel, generator: torch.Generator) -> None:
    """Overwrite every parameter so that each layer keeps its input's unit variance."""
    import torch

    tied = model.config.tie_word_embeddings  # the tied families scale up their embeddings
    gain = SCORE_STD**0.5  # for the query and for the key
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "bias" in name:
            parameter.copy_(0.3 * noise)
        elif "sinks" in name:
            parameter.copy_(noise)
        elif parameter.dim() == 1 or "norm" in name:  # its weight is 1, or 0 where 1 is added
            shift = gain - 1 if "q_norm" in name or "k_norm" in name else 0.0
            parameter.add_(shift + 0.1 * noise)
        elif "embed" in name:
            parameter.copy_(noise / (parameter.shape[-1] ** 0.5 if tied else 1.0))
        else:
            queries_or_keys = any(part in name for part in ("q_proj", "k_proj", "qkv", "query_key"))
            scale = gain if queries_or_keys else 1.0
            parameter.copy_(scale * noise / model.config.hidden_size**0.5)


CAPITALISED = ("Yes", "No", "True", "False", "Correct", "Wrong")
LOWER = tuple(word.lower() for word in CAPITALISED)
UPPER = ("YES", "NO", "TRUE", "FALSE")  # CORRECT and WRONG stay several tokens, as is usual
CORPUS = (
    "You are given a question and you MUST answer Yes or No.",
    "You are asked a question that demands a clear Yes or No answer.",
    "A question is posed to you, and you are obligated to answer either Yes or No.",
    "You MUST answer shortly the given question based on your knowledge.",
    "You are given a question and you MUST answer True or False.",
    "You are given a question and you MUST answer Correct or Wrong.",
    "Context: Paris is the capital of France. Question: What is the capital of France?",
    "Is the answer Paris? Answer: Is the answer London? Answer: Berlin, Rome, Madrid or Tokyo.",
    "Question: Who wrote Hamlet? The author of the novel was William Shakespeare.",
    "Question: Which currency is used in Japan? The yen. In which continent is Brazil?",
    "Question: What is the chemical symbol of gold? What is the atomic number of oxygen?",
    "Question: How many legs does a spider have? In what year did the war end? 1945.",
    "You are a helpful AI assistant. system user assistant",
    "Judge whether this statement about the world is right. There is no doubt about it.",
)
SYSTEM_PROMPT = "You are a helpful AI assistant."
CHAT_TEMPLATE = (  # as SmolLM2: a default system prompt when there is none
    "{% if bos_token %}{{ bos_token }}{% endif %}"
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    f"{{{{ '<|im_start|>system\n{SYSTEM_PROMPT}<|im_end|>\n' }}}}"
    "{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# How Llama 3 and Qwen cut text: one sign may open a word, so that the "No" of "Yes/No" is "/No".
WORDS = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def build_tokenizer(
    *,
    style: Literal["bytelevel", "metaspace"] = "bytelevel",
    chat_template: bool = True,
    bos: bool = True,
) -> PreTrainedTokenizerFast:
    """Build a tokenizer of `VOCABULARY` tokens; a new object each call, as callers may change it.

    `CAPITALISED`, `LOWER` and `UPPER` words are one token each, with a space before them and
    without. In the byte-level style "/No" and '"No' at the start of a line are one token too.

    Args:
        style: `bytelevel` as Llama 3 and Qwen, `metaspace` with byte fallback as Llama 2.
        chat_template: Whether it has the template `CHAT_TEMPLATE`.
        bos: Whether it has a BOS token, which it then puts before every text. The chat template
            writes it as well, so text from the template must be encoded without special tokens.
    """
    from transformers import PreTrainedTokenizerFast

    trained = Tokenizer.from_str(_train(style))
    if bos:
        trained.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained,
        pad_token="<pad>",
        bos_token="<s>" if bos else None,
        eos_token="<|im_end|>",
        unk_token="<unk>",
        additional_special_tokens=["<|im_start|>"],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE if chat_template else None
    return tokenizer


def _training_lines() -> list[str]:
    """The corpus with the answer words so frequent that they become single tokens first."""
    words = [word for word in CAPITALISED + LOWER + UPPER for _ in range(40)]
    signs = [sign + word for word in ("Yes", "No") for sign in '/"' for _ in range(40)]
    return list(CORPUS) * 3 + words + [" " + word for word in words] + signs


@functools.cache
def _train(style: Literal["bytelevel", "metaspace"]) -> str:
    """Train a tokenizer and return it as JSON."""
    if style == "bytelevel":
        tokenizer = Tokenizer(models.BPE())
        split = pre_tokenizers.Split(WORDS, behavior="isolated")
        to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        _learn(tokenizer, VOCABULARY, alphabet)
        return tokenizer.to_str()

    learner = Tokenizer(models.BPE(unk_token="<unk>"))
    space = pre_tokenizers.Metaspace(prepend_scheme="never")
    learner.pre_tokenizer = pre_tokenizers.Sequence([space, pre_tokenizers.Punctuation()])
    _learn(learner, VOCABULARY - 256, [])
    learned = json.loads(learner.to_str())["model"]
    byte_tokens = {f"<0x{byte:02X}>": VOCABULARY - 256 + byte for byte in range(256)}
    merges = [tuple(pair) for pair in learned["merges"]]
    bpe = models.BPE(
        vocab=learned["vocab"] | byte_tokens,
        merges=merges,
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = Tokenizer(bpe)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    back = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*back, decoders.Strip(" ", 1, 0)])
    return tokenizer.to_str()


def _learn(tokenizer: Tokenizer, size: int, alphabet: list[str]) -> None:
    """Train a tokenizer in place on the corpus to exactly `size` tokens."""
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_training_lines(), trainer)
    assert tokenizer.get_vocab_size() == size, tokenizer.get_vocab_size()
