"""Rows of a bfloat16 model are float32 in the forward pass, and rounded where they are written."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

import architectures
import tiny
from nasalign.config import Settings
from nasalign.data.records import BinaryExample
from nasalign.head_rows.rows import TunableRows, head_slices, read_weight_rows
from nasalign.models.geometry import HeadGeometry
from nasalign.nas.heads import Head
from nasalign.nasa.algorithm import Limits, incremental_tuning
from nasalign.nasa.checkpoint import CheckpointedTuner
from nasalign.nasa.training import RowTuner
from nasalign.prompts.builder import PromptBuilder

HEAD = Head(1, 2, 0.0)


def nudged(rows: Tensor) -> Tensor:
    """Values between those that bfloat16 has, a quarter of the way to the next: they round back."""
    return rows.float() * (1 + 2.0**-10)  # its distance is 2**-8 to 2**-7 of a value


@pytest.mark.parametrize("name", ["llama", "phi3", "qwen2"])
def test_what_bfloat16_rounds_away_is_in_the_forward_pass(name: str) -> None:
    model = tiny.build_model(name, dtype=torch.bfloat16).requires_grad_(False)
    rows = TunableRows(model, head_slices(HeadGeometry.of(model), 1, 2, "group"))
    (where, *_) = rows.parameters
    module = model.get_submodule(where.module)
    assert isinstance(module, nn.Linear)
    hidden = torch.randn(1, 50, module.in_features, dtype=torch.bfloat16)
    before = module(hidden)
    parameter = rows.parameters[where]
    parameter.data.copy_(nudged(rows.original[where]))
    place = slice(where.start, where.stop)
    bias = None if module.bias is None else module.bias[place].float()
    expected = functional.linear(hidden.float(), parameter, bias).bfloat16()
    with rows:
        after = module(hidden)
    assert after.dtype == torch.bfloat16
    torch.testing.assert_close(after[..., place], expected, rtol=0, atol=0)
    assert (after[..., place] != before[..., place]).float().mean() > 0.05
    after[..., place] = before[..., place]
    assert torch.equal(after, before)  # the other heads' rows are as they were
    assert rows.rounds
    rows.write()
    assert torch.equal(read_weight_rows(model, where), rows.original[where])  # all rounded back


@pytest.mark.parametrize("name", ["gpt2", "zamba2", "deepseek_v3", "qwen3_next"])
def test_rows_have_the_gradient_of_their_place_in_the_weight(name: str) -> None:
    """Also where the weight lies the other way (GPT-2), or two layers have it (Zamba 2)."""
    model, ids = architectures.build(name), torch.arange(5, 30)[None]
    geometry = HeadGeometry.of(model)
    layer, head = geometry.places[-2]
    slices = head_slices(geometry, layer, head, "group")
    weights = {model.get_submodule(where.module).weight for where in slices}
    for weight in weights:
        weight.requires_grad_(True)
    model(input_ids=ids, use_cache=False).logits[0, -1, 7].backward()
    expected = {}
    for where in slices:
        gradient = model.get_submodule(where.module).weight.grad
        gradient = gradient.T if name == "gpt2" else gradient
        expected[where] = gradient[where.start : where.stop].clone()
    for weight in weights:
        weight.requires_grad_(False)
    with TunableRows(model, slices) as rows:
        model(input_ids=ids, use_cache=False).logits[0, -1, 7].backward()
    for where, parameter in rows.parameters.items():
        assert expected[where].abs().max() > 1e-6
        torch.testing.assert_close(parameter.grad, expected[where], atol=1e-5, rtol=1e-3)


def tuner_of(
    tokenizer: PreTrainedTokenizerFast, dtype: torch.dtype, **settings: object
) -> RowTuner:
    builder = PromptBuilder(tokenizer)
    words = ("one", "two", "three", "four", "five", "six")
    prompts = [builder.binary(BinaryExample(f"What is {word}?", True, word)) for word in words]
    model = tiny.build_model("llama", dtype=dtype).requires_grad_(False)
    chosen = Settings(tuning_batch_size=6, batch_size=6, warmup_ratio=0.0, epochs=2)
    return RowTuner(model, prompts, prompts, chosen.replace(settings), [HEAD, Head(2, 0, 0.0)])


def test_validation_is_measured_with_the_float32_rows_and_at_last_with_the_weights(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    tuner = tuner_of(tokenizer, torch.bfloat16, learning_rate=1e-4)
    untouched = tuner.measure()
    tuner.begin(HEAD)
    for where, parameter in tuner.rows.parameters.items():
        parameter.data.copy_(nudged(tuner.rows.original[where]))
    tuner.rows.write()
    now = tuner.measure()
    assert now.of(HEAD) != untouched.of(HEAD)  # although the weights are those of before
    written = tuner.finish()
    assert written is not None
    assert torch.equal(written.nas, untouched.nas)
    assert torch.equal(tuner.measure().nas, untouched.nas)


def test_the_next_head_begins_at_what_the_weights_give(tokenizer: PreTrainedTokenizerFast) -> None:
    """At this rate nothing is left of the update of a head once it is rounded."""
    tuner = tuner_of(tokenizer, torch.bfloat16, learning_rate=1e-6)
    start = tuner.measure().model
    limits = Limits(epochs=2, rho=-1e9, tau=-1e9, halting_share=1.0)
    records = list(incremental_tuning([HEAD, Head(2, 0, 0.0)], tuner, limits))
    heads = [one for one in records if hasattr(one, "kept")]
    assert len(heads) == 2
    assert heads[0].beta != start
    assert heads[1].beta_before == start


def test_a_resumed_run_begins_the_next_head_alike(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    limits = Limits(epochs=2, rho=-1e9, tau=-1e9, halting_share=1.0)
    heads = [HEAD, Head(2, 0, 0.0)]
    whole = list(
        incremental_tuning(heads, tuner_of(tokenizer, torch.bfloat16, learning_rate=1e-4), limits)
    )
    first = CheckpointedTuner(tuner_of(tokenizer, torch.bfloat16, learning_rate=1e-4), tmp_path)
    done = list(incremental_tuning(heads[:1], first, limits))
    first.head_is_done(done)
    second = CheckpointedTuner(tuner_of(tokenizer, torch.bfloat16, learning_rate=1e-4), tmp_path)
    assert second.heads_done == 1
    assert [*done, *incremental_tuning(heads[1:], second, limits)] == whole
    assert whole[-1].beta_before != done[-1].beta


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_that_do_not_round_are_measured_once(
    dtype: torch.dtype, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuner = tuner_of(tokenizer, dtype, learning_rate=1e-3)
    tuner.begin(HEAD)
    assert not tuner.rows.rounds
    tuner.train_epoch()
    monkeypatch.setattr(TunableRows, "__enter__", None)  # the plain pass measures
    now = tuner.measure()
    monkeypatch.undo()
    assert tuner.finish() is None
    assert torch.equal(tuner.measure().nas, now.nas)
