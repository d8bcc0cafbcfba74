"""What nasalign does with a type of model that transformers names: it works, or it is refused.

A tiny model of the type is scored, aligned, exported and reloaded, and compared with what the paper
says and with what transformers and PEFT alone make of the files. `docs/families.md` has a row for
each type, which `docs/make_families.py` writes.
"""

from __future__ import annotations

import functools
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.models.auto import modeling_auto
from transformers.pytorch_utils import Conv1D

import reference
import tiny
from nasalign.adapters.adapter import Adapter, load_adapter
from nasalign.config import Settings
from nasalign.data.records import BinaryExample
from nasalign.errors import ModelError
from nasalign.head_rows.rows import head_slices, read_weight_rows
from nasalign.inference.generation import generate
from nasalign.inference.scoring import score
from nasalign.models.classes import auto_class, loading_class
from nasalign.models.geometry import HeadGeometry, check_supported, text_model
from nasalign.models.loading import fingerprint, load
from nasalign.nas.heads import Head
from nasalign.nasa.training import RowTuner
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder
from tiny_types import tiny_config

CAUSAL = list(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
MULTIMODAL = [
    name
    for name in modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES
    if name not in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
]
EXAMPLES = [
    BinaryExample("What is the capital of France?", True, "Paris"),
    BinaryExample("Who wrote Hamlet?", True, "Shakespeare"),
]
TOKENS = 4
SETTINGS = Settings(epochs=1, learning_rate=0.02, tuning_batch_size=2)

IN_FLOAT32 = {"inkling2", "inkling2_text"}
"""Types that cannot run in float64."""

PEFT_LOSES = {"deepseek_ocr2", "unlimited_ocr"}
"""Types of which PEFT 0.21 does not read back what it has written itself: it renames the modules,
which transformers names otherwise in files, a second time."""
ARCHITECTURES = {"shieldgemma2": "ShieldGemma2ForImageClassification"}
"""What checkpoints of a type name, where it is not the class that transformers takes for text."""


_REFUSED = re.compile(
    r"The (?:architecture|model) (\S+) (?:is not supported|cannot be loaded): (.+?)\.?"
)


@dataclass(frozen=True)
class Outcome:
    """What the page says of a type: its class, and what is special or why it is refused."""

    model_type: str
    model_class: str
    works: bool
    text: str

    @property
    def row(self) -> str:
        """The row of the table."""
        cells = (f"`{self.model_type}`", f"`{self.model_class}`", self.text)
        return f"| {' | '.join(cells)} |"


def compare(model_type: str, folder: Path) -> None:
    """Compare what a type does with its row of the page."""
    page = (Path(__file__).parents[1] / "docs" / "families.md").read_text(encoding="utf-8")
    assert f"\n{outcome(model_type, folder).row}\n" in page, "run python docs/make_families.py"


def outcome(model_type: str, folder: Path) -> Outcome:
    """Try a type in an empty folder.

    Raises:
        AssertionError: it is taken, and something does not hold.
    """
    config = tiny_config(model_type)
    auto = auto_class(config)
    name = auto._model_mapping[type(config)].__name__ if auto else type(config).__name__
    config.architectures = [ARCHITECTURES.get(model_type, name)]
    config.save_pretrained(folder)
    try:
        check_supported(AutoConfig.from_pretrained(folder))
    except Exception:
        return Outcome(
            model_type, name, works=False, text=_refusal(folder, config.architectures[0])
        )
    torch.manual_seed(0)
    _write(auto.from_config(config, dtype=torch.float32), folder)
    model, tokenizer = load(folder, device="cpu")
    assert type(model).__name__ == name
    text = _special(model)
    _check_generation(model, tokenizer)
    _check_scores(folder, tokenizer)
    _check_alignment(model, tokenizer, folder)
    return Outcome(model_type, name, works=True, text=text)


def _refusal(folder: Path, name: str) -> str:
    """Why a type is refused; neither its weights nor its tokenizer can be read."""
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError) as caught:
        load(folder, device="cpu")
    said = _REFUSED.fullmatch(str(caught.value))
    assert said, str(caught.value)
    assert said[1] in (name, repr(str(folder)))
    return said[2]


@torch.no_grad()
def _write(model: PreTrainedModel, folder: Path) -> None:
    """Save a model with random weights; those that begin as 0 or 1 would hide a mistake."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    tiny.build_tokenizer(chat_template=False).save_pretrained(folder)


def _special(model: PreTrainedModel) -> str:
    """What sets a type apart, as far as its tiny model shows."""
    geometry, config = HeadGeometry.of(model), model.config.get_text_config()
    heads = [own for own in geometry.attention if own]
    found = {
        "multimodal": loading_class(type(model).__name__) != "AutoModelForCausalLM",
        "MLA": any(own.layout == "latent" for own in heads),
        "heads in some layers": len(heads) < geometry.layers,
        "layers differ": len({(own.heads, own.groups) for own in heads}) > 1,
        "windows": getattr(config, "sliding_window", None),
        "PEFT cannot read adapters of it": model.config.model_type in PEFT_LOSES,
        "mixture of experts": any("experts" in name for name, _ in model.named_modules()),
    }
    return "; ".join(text for text, there in found.items() if there)


@torch.no_grad()
def _check_generation(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Answers are those of the likeliest tokens, found without a cache; prompts share a prefix."""
    builder = PromptBuilder(tokenizer)
    prompts = [builder.binary(example) for example in EXAMPLES]
    found = generate(model, tokenizer, prompts, TOKENS, until=None)
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    for place, prompt in enumerate(prompts):
        ids, start = list(prompt.token_ids), len(prompt.token_ids)
        entropies: list[float] = []
        while len(ids) < start + TOKENS and not (entropies and ids[-1] in ends):
            logits = model(input_ids=torch.tensor(ids)[None], use_cache=False).logits[0, -1]
            entropies.append(float(torch.special.entr(logits.softmax(dim=-1)).sum()))
            ids.append(int(logits.argmax()))
        assert found.texts[place] == tokenizer.decode(ids[start:], skip_special_tokens=True).strip()
        assert abs(found.entropies[place] - entropies[0]) < 1e-3


# --- score


def _check_scores(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """The NAS of each head equals the paper's equation on eager attention, in float64."""
    model = _loaded(folder)
    close = {"atol": 1e-5, "rtol": 1e-4}  # recurrent layers compute in float32
    if IN_FLOAT32.isdisjoint({model.config.model_type}):
        model = model.double()
    else:
        close = {"atol": 1e-4, "rtol": 1e-3}
    model.set_experts_implementation("eager")  # the grouped kernel cannot take float64
    prompts = [PromptBuilder(tokenizer).binary(example) for example in EXAMPLES]
    with reference.softmax_in_float64():
        found = score(model, tokenizer, EXAMPLES).nas
        expected = torch.stack([_expected(model, prompt) for prompt in prompts])
    assert expected.nan_to_num().abs().max() > 1e-3
    torch.testing.assert_close(found.double(), expected, **close, equal_nan=True)


def _expected(model: PreTrainedModel, prompt: BinaryPrompt) -> Tensor:
    """Eq. 1 for each head, [L, H]; NaN where a layer has none."""
    geometry, ids = HeadGeometry.of(model), torch.tensor(prompt.token_ids)
    with _eager(model) as seen:
        model(input_ids=ids[None], use_cache=False)
    expected = torch.full((geometry.layers, geometry.heads), torch.nan, dtype=torch.float64)
    calls = {name: iter(weights) for name, weights in seen.weights.items()}
    place = (prompt.positive_position, prompt.negative_position, prompt.first_row)
    for layer, name in geometry.modules.items():
        for head, weights in enumerate(next(calls[name])[0]):
            assert weights.shape == (len(ids), len(ids))
            expected[layer, head] = reference.nas(weights.double(), *place)
    return expected


class _Seen:
    """What attention was given and its weights, by the module's name, one for each call."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.names = {module: name for name, module in model.named_modules()}
        self.queries: dict[str, list[Tensor]] = defaultdict(list)
        self.weights: dict[str, list[Tensor]] = defaultdict(list)


_seen: _Seen | None = None


@contextmanager
def _eager(model: PreTrainedModel) -> Iterator[_Seen]:
    """Run a model with the eager attention of its own file, and keep what that sees."""
    global _seen
    text: Any = text_model(model)[1]
    _seen, before = _Seen(model), text.config._attn_implementation
    text.set_attn_implementation("sweep_eager")
    try:
        yield _seen
    finally:
        _seen = None
        text.set_attn_implementation(before)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    **options: Any,
) -> Any:
    files = (sys.modules[base.__module__] for base in type(module).__mro__)
    file: Any = next(file for file in files if hasattr(file, "eager_attention_forward"))
    keys = options.pop("indices", None)  # those that sparse attention picks
    if keys is not None:
        few = torch.zeros(attention_mask.shape, dtype=torch.bool)
        for row in range(keys.shape[1]):
            few[:, 0, row] = few[:, 0, row].scatter(-1, keys[:, row].long(), True)
        attention_mask = attention_mask.masked_fill(~few, torch.finfo(attention_mask.dtype).min)
    if _seen:
        # With values that are the unit vectors, what comes out are the weights of the values.
        unit = torch.eye(key.shape[2], dtype=value.dtype).expand(*value.shape[:2], -1, -1)
        weights, _ = file.eager_attention_forward(
            module, query, key, unit, attention_mask, **options
        )
        _seen.queries[_seen.names[module]].append(query.detach())
        _seen.weights[_seen.names[module]].append(weights.detach().transpose(1, 2))
    return file.eager_attention_forward(module, query, key, value, attention_mask, **options)


AttentionInterface.register("sweep_eager", _attend)
AttentionMaskInterface.register("sweep_eager", ALL_MASK_ATTENTION_FUNCTIONS["eager"])


# --- align, export, reload


def _check_alignment(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    """Tuning moves the rows of its heads alone, and the files have the whole change."""
    untouched = _logits(model)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    adapter = _tuned(model, tokenizer)
    _check_moved(before, model, adapter)
    expected = _logits(model)
    assert not torch.allclose(untouched, expected, atol=1e-4)
    adapter.save(folder / "adapter", folder)
    model.save_pretrained(folder / "merged")
    assert torch.equal(_logits(_loaded(folder / "merged")), expected)
    again = _loaded(folder)
    with load_adapter(folder / "adapter", again).on(again):
        _assert_same(_logits(again), expected)
    if model.config.model_type not in PEFT_LOSES:
        _assert_same(_logits(PeftModel.from_pretrained(again, folder / "adapter")), expected)


def _tuned(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Adapter:
    """An epoch on the first head of the first layer with heads, and on the last of the last."""
    geometry, base = HeadGeometry.of(model), fingerprint(model)
    heads = [Head(*place, 0.0) for place in (geometry.places[0], geometry.places[-1])]
    slices = {where for head in heads for where in head_slices(geometry, *head[:2], "group")}
    before = {where: read_weight_rows(model, where) for where in slices}
    prompts = [PromptBuilder(tokenizer).binary(example) for example in EXAMPLES]
    tuner = RowTuner(model, prompts, prompts, SETTINGS, heads)
    for head in heads:
        queries = _reaching(model, geometry, head)
        tuner.begin(head)
        tuner.train_epoch()
        tuner.measure()
        tuner.finish()
        _check_one_head(queries, _reaching(model, geometry, head), head, model, geometry)
    return Adapter.between(before, model, base)


def _reaching(model: PreTrainedModel, geometry: HeadGeometry, head: Head) -> Tensor:
    """The queries [H, T, D] that reach the attention of a head's layer."""
    with torch.no_grad(), _eager(model) as seen:
        model(input_ids=_ids(model), use_cache=False)
    return seen.queries[geometry.modules[geometry.firsts[head.layer]]][0][0]


def _check_one_head(
    before: Tensor, after: Tensor, head: Head, model: PreTrainedModel, geometry: HeadGeometry
) -> None:
    """Of the queries of a layer, those of the head have changed, and no others."""
    norm = getattr(model.get_submodule(geometry.modules[head.layer]), "q_norm", None)
    shape = getattr(getattr(norm, "weight", None), "shape", ())
    over_all = len(shape) == 1 and shape[0] > before.shape[-1]  # of a layer together
    moved = (before != after).flatten(1).any(dim=1).nonzero().flatten().tolist()
    assert moved == (list(range(len(before))) if over_all else [head.head]), moved


def _check_moved(before: dict[str, Tensor], model: PreTrainedModel, adapter: Adapter) -> None:
    """Nothing but the rows of the adapter has moved, and of the heads' every row has."""
    rows: dict[str, set[int]] = defaultdict(set)
    for where in adapter.after:
        rows[f"{where.module}.weight"] |= set(range(where.start, where.stop))
    for name, after in model.named_parameters():
        changed = before[name] != after
        if not changed.any():
            continue
        if isinstance(model.get_submodule(name.rpartition(".")[0]), Conv1D):
            changed = changed.T
        assert set(changed.any(dim=1).nonzero().flatten().tolist()) <= rows[name], name


def _loaded(folder: Path) -> Any:
    """A model as transformers alone loads it."""
    auto = auto_class(AutoConfig.from_pretrained(folder))
    return auto.from_pretrained(folder, dtype=torch.float32).eval()


@functools.cache
def _text() -> Tensor:
    return torch.arange(5, 45)[None]


def _ids(model: PreTrainedModel) -> Tensor:
    return _text()


@torch.no_grad()
def _logits(model: Any) -> Tensor:
    return model(input_ids=_text(), use_cache=False).logits


def _assert_same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
