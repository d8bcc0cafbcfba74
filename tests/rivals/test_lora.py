"""LoRA by hooks: it is PEFT's, and changes what it says."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import tiny
from nasalign.adapters.adapter import load_adapter
from nasalign.head_rows.low_rank import ALPHA, RANK, LowRankChange, outputs_of
from nasalign.head_rows.rows import head_slices
from nasalign.models.geometry import HeadGeometry
from nasalign.models.output_projections import attention_outputs
from nasalign.rivals.lora import adapter_of, all_linear, attention_linear, queries_and_keys
from nasalign.session import Session
from rivals.material import logits


def filled(change: LowRankChange, seed: int = 0) -> LowRankChange:
    """A change as training might leave it."""
    generator = torch.Generator().manual_seed(seed)
    for up in change.up:
        up.data.copy_(torch.randn(up.shape, generator=generator) / 10)
    return change


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["llama", "phi3", "qwen2"])
def test_the_same_factors_do_in_peft_what_they_do_here(family: str, dtype: torch.dtype) -> None:
    model = tiny.build_model(family, layers=2, dtype=dtype)
    change = filled(LowRankChange(model, all_linear(model), seed=0))
    assert {one.dtype for one in change.parameters()} == {torch.float32}
    before = logits(model)
    with change.on(model):
        ours = logits(model)
    assert logits(model).equal(before)
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(change.outputs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = get_peft_model(model, config)
    for place, name in enumerate(change.outputs):
        layer = wrapped.get_base_model().get_submodule(name)
        assert isinstance(layer, LoraLayer)
        layer.lora_A["default"].weight.data = change.down[place].detach()
        layer.lora_B["default"].weight.data = change.up[place].detach()
    theirs = logits(wrapped)
    assert (ours - before).abs().max() > 0.1
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("outputs", [attention_linear, queries_and_keys])
def test_what_is_written_does_the_same_in_peft_and_as_our_adapter(
    outputs, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Of the fused queries, keys and values of Phi-3, a part may change."""
    model = tiny.build_model("phi3", layers=2)
    change = filled(LowRankChange(model, outputs(model), seed=0))
    before = logits(model)
    with change.on(model):
        ours = logits(model)
    assert (ours - before).abs().max() > 0.05
    session = Session.start(model, tokenizer)
    adapter_of(change, session).save(tmp_path / "adapter", "base")
    adapter = load_adapter(tmp_path / "adapter", model)
    with adapter.on(model):
        torch.testing.assert_close(logits(model), ours)
    assert logits(model).equal(before)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = PeftModel.from_pretrained(model, str(tmp_path / "adapter"))
    torch.testing.assert_close(logits(wrapped), ours)


def test_the_first_weights_are_distributed_as_those_of_peft() -> None:
    model = tiny.build_model("llama", layers=2)
    ours = LowRankChange(model, all_linear(model), seed=0)
    assert not any(up.any() for up in ours.up)  # so it is no change yet
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = get_peft_model(model, LoraConfig(r=RANK, target_modules=list(ours.outputs)))
    for place, name in enumerate(ours.outputs):
        theirs = wrapped.get_base_model().get_submodule(name).lora_A["default"].weight.detach()
        assert float(ours.down[place].detach().std()) == pytest.approx(
            float(theirs.std()), rel=0.15
        )
        assert float(ours.down[place].detach().abs().max()) == pytest.approx(
            float(theirs.abs().max()), rel=0.05
        )


@pytest.mark.parametrize("family", ["llama", "phi3", "mixtral"])
def test_all_linear_layers_but_the_output_embedding(family: str) -> None:
    model = tiny.build_model(family, layers=2)
    linear = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    }
    change = LowRankChange(model, all_linear(model), seed=0)
    assert change.outputs.keys() == linear.keys()
    assert change.numbers == sum(
        RANK * (module.in_features + module.out_features) for module in linear.values()
    )


def rows_of(model: PreTrainedModel, name: str, part: str) -> list[int]:
    """Outputs of a module that are queries or keys of some head."""
    geometry = HeadGeometry.of(model)
    slices = [getattr(geometry.rows(*place), part) for place in geometry.places]
    return [row for one in slices if one.module == name for row in range(one.start, one.stop)]


@pytest.mark.parametrize("family", ["llama", "phi3", "gpt_neox"])
def test_queries_and_keys_alone(family: str) -> None:
    """Phi-3 and GPT-NeoX make the values in the same module, whose outputs must not change."""
    model = tiny.build_model(family, layers=2)
    change = filled(LowRankChange(model, queries_and_keys(model), seed=0))
    seen: dict[str, Tensor] = {}

    def see(name: str) -> None:
        module = model.get_submodule(name)
        module.register_forward_hook(lambda _, __, out: seen.update({name: out.detach()}))

    first = [name for name in change.outputs if ".0." in name]
    with change.on(model):  # our hooks are before those that look
        for name in first:
            see(name)
        logits(model)
    after = dict(seen)
    logits(model)
    for name in first:
        moved = (after[name] != seen[name]).flatten(0, 1).any(dim=0)
        expected = {*rows_of(model, name, "query"), *rows_of(model, name, "key")}
        assert set(moved.nonzero().flatten().tolist()) == expected
    if family != "llama":
        assert len(expected) < len(moved)


def test_the_seed_decides() -> None:
    model = tiny.build_model("llama", layers=1)
    before = torch.get_rng_state()
    one, same, other = (LowRankChange(model, all_linear(model), seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.down[0], same.down[0])
    assert not torch.equal(one.down[0], other.down[0])


@pytest.mark.parametrize("family", ["llama", "phi3", "qwen2", "gpt_neox"])
def test_it_does_what_its_adapter_does_in_the_weights(
    family: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Rows of some heads and columns of their output projection."""
    model = tiny.build_model(family, layers=2).requires_grad_(False)
    geometry, before = HeadGeometry.of(model), logits(model)
    heads = [(0, 1), (1, 2), (1, 3)]
    slices = [where for head in heads for where in head_slices(geometry, *head, "group")]
    name = attention_outputs(model)[1]
    weight = model.get_submodule(name).weight
    columns = torch.zeros(weight.shape[1], dtype=torch.bool)
    columns[5:9] = True
    outputs = {**outputs_of(model, slices), name: None}
    change = filled(LowRankChange(model, outputs, 0, {name: columns}))
    with change.on(model):
        ours = logits(model)
    assert torch.equal(logits(model), before)
    state = tiny.state(model)
    adapter = adapter_of(change, Session.start(model, tokenizer))
    with adapter.on(model):
        torch.testing.assert_close(ours, logits(model), rtol=1e-4, atol=1e-5)
        moved = (state[f"{name}.weight"] != weight).any(dim=0)
        assert torch.equal(moved, columns)
        differ = (state[one] != now for one, now in model.state_dict().items())
        assert adapter.parameters == sum(int(one.sum()) for one in differ)
    assert adapter.trained == change.numbers
    assert (ours - before).abs().max() > 1e-3
