"""Frozen weights in few bits, by bitsandbytes; what is tuned stays in the dtype."""

from pathlib import Path

import pytest
import torch
from torch import nn

import tiny
from nasalign.adapters.adapter import Adapter, load_adapter
from nasalign.config import Settings
from nasalign.data.records import BinaryExample
from nasalign.errors import ModelError
from nasalign.head_rows.rows import head_slices, read_weight_rows
from nasalign.models.geometry import HeadGeometry
from nasalign.models.loading import fingerprint, load
from nasalign.nas.heads import Head
from nasalign.nasa.training import RowTuner
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder

HEAD = Head(1, 2, 0.0)


@pytest.fixture(params=["llama", "phi3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tiny.save(tmp_path, request.param))


def prompts() -> list[BinaryPrompt]:
    builder = PromptBuilder(tiny.build_tokenizer())
    return [builder.binary(BinaryExample(f"Who is {name}?", True, name)) for name in "abcdef"]


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_all_but_queries_and_keys_are_quantised(folder: str, bits: str) -> None:
    plain, _ = load(folder, device="cpu")
    model, _ = load(folder, device="cpu", quantize=bits)
    kept = {name: module for name, module in plain.named_modules() if isinstance(module, nn.Linear)}
    quantised = set()
    for name, module in kept.items():
        mine = model.get_submodule(name)
        if mine.weight.dtype in (torch.int8, torch.uint8):
            quantised.add(name.rpartition(".")[2])
        else:
            assert torch.equal(mine.weight, module.weight), name
    assert {"o_proj", "down_proj"} <= quantised
    assert not quantised & {"q_proj", "k_proj", "qkv_proj", "lm_head"}
    assert HeadGeometry.of(model) == HeadGeometry.of(plain)


def test_8_bit_is_tuned_and_the_adapter_fits_the_checkpoint(folder: str, tmp_path: Path) -> None:
    model, _ = load(folder, device="cpu", quantize="8bit")
    state = {name: value.clone() for name, value in model.state_dict().items()}
    where = head_slices(HeadGeometry.of(model), *HEAD[:2], "group")
    before = {one: read_weight_rows(model, one) for one in where}
    settings = Settings(epochs=1, learning_rate=1e-2, tuning_batch_size=3, warmup_ratio=0.0)
    tuner = RowTuner(model, prompts(), prompts(), settings, [HEAD])
    tuner.begin(HEAD)
    tuner.train_epoch()
    adapter = Adapter.between(before, model, fingerprint(model))
    assert set(adapter.after) == set(where)
    for name, value in model.state_dict().items():
        inside = [one for one in where if name == f"{one.module}.weight"]
        for one in inside:
            value[one.start : one.stop] = state[name][one.start : one.stop]
        assert torch.equal(value, state[name]), name
    adapter.revert(model)
    adapter.save(tmp_path / "adapter", folder)
    plain, _ = load(folder, device="cpu")
    other = load_adapter(tmp_path / "adapter", plain)
    for one in where:
        torch.testing.assert_close(other.after[one], adapter.after[one], atol=1e-6, rtol=0)
    plain.get_submodule(where[0].module).weight.data[where[0].start] += 1
    with pytest.raises(ModelError, match="not as they were"):
        load_adapter(tmp_path / "adapter", plain)


class Lost(torch.autograd.Function):
    """Gives no gradient, as the 4-bit kernels for CPUs do; they say so in a warning alone."""

    @staticmethod
    def forward(ctx: object, hidden: torch.Tensor) -> torch.Tensor:
        return hidden.clone()

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> None:
        return None


def test_a_lost_gradient_is_said() -> None:
    model = tiny.build_model("llama").requires_grad_(False)
    attention = model.model.layers[HEAD.layer].self_attn
    attention.o_proj.register_forward_hook(lambda module, given, output: Lost.apply(output))
    tuner = RowTuner(model, prompts(), prompts(), Settings(epochs=1), [HEAD])
    tuner.begin(HEAD)
    with pytest.raises(ModelError, match="No gradient reaches the rows"):
        tuner.train_epoch()


def test_what_cannot_be_quantised_is_refused(folder: str) -> None:
    with pytest.raises(ModelError, match="no quantisation '2bit'"):
        load(folder, device="cpu", quantize="2bit")
    with pytest.raises(ModelError, match="taken dequantised"):
        load("model.gguf", device="cpu", quantize="8bit")
