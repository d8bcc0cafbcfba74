"""Memory that runs out halves a batch, or ends in one sentence; the figures stay."""

from __future__ import annotations

import errno
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import typer
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import tiny
from memory_limit import MESSAGE, Once
from nasalign.config import Settings
from nasalign.data.records import BinaryExample
from nasalign.errors import OutOfMemoryError
from nasalign.evaluation.side_effects import compare_neutral
from nasalign.head_rows.activations import ActivationMemory
from nasalign.head_rows.replay import Replay
from nasalign.inference import batches
from nasalign.inference.attention_map import attention_map
from nasalign.inference.generation import generate
from nasalign.inference.scoring import score_prompts
from nasalign.models.memory import explained, is_out_of_memory
from nasalign.nas.heads import Head
from nasalign.nas.positions import Positions
from nasalign.nas.recorder import NasRecorder
from nasalign.nasa.training import RowTuner
from nasalign.nasa_plus.attribution import attribution
from nasalign.nasa_plus.divergence import Answered
from nasalign.nasa_plus.joint_pairs import JointSamples, PromptPair
from nasalign.nasa_plus.joint_tuning import JointTuner
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder
from nasalign.rivals.observed import last_inputs

Work = Callable[[PreTrainedModel, PreTrainedTokenizerFast], Any]
PLACES = 15  # of all operations, at which memory runs out


def prompts(tokenizer: PreTrainedTokenizerFast, count: int = 6) -> list[BinaryPrompt]:
    builder = PromptBuilder(tokenizer)
    return [
        builder.binary(BinaryExample(f"Is {'very ' * (place % 4)}{place} true?", True))
        for place in range(count)
    ]


def twins(tokenizer: PreTrainedTokenizerFast) -> list[PromptPair]:
    both = prompts(tokenizer, 12)
    return [PromptPair(*pair, "known") for pair in zip(both[::2], both[1::2], strict=True)]


def scored(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Any:
    scores = score_prompts(model, prompts(tokenizer))
    return scores.nas, scores.p_positive, scores.p_negative


def generated(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Any:
    answers = generate(model, tokenizer, prompts(tokenizer), 3)
    return answers.entropies, [list(map(ord, text)) for text in answers.texts]


def attributed(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Any:
    some = prompts(tokenizer)
    return attribution(model, list(zip(some[::2], some[1::2], strict=True)), batch_size=3)


def observed(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Any:
    return last_inputs(model, prompts(tokenizer), ["model.layers.1", "model.layers.2"])


def replayed(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Any:
    replay = Replay(model, prompts(tokenizer), None, ActivationMemory())
    replay.prepare(2)
    return replay.inputs[2].rows


def tuned(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Any:
    settings = Settings(learning_rate=1e-2, epochs=1, tuning_batch_size=4)
    tuner = RowTuner(model, prompts(tokenizer), prompts(tokenizer, 4), settings)
    tuner.begin(Head(1, 2, 1.0))
    loss = tuner.train_epoch()
    return loss, tuner.measure().nas, *tuner.rows.parameters.values()


def tuned_jointly(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Any:
    settings = Settings(
        centring=0.5, kl_weight=3.0, joint_batch_size=8, joint_epochs=1, joint_learning_rate=1e-2
    )
    free = [Answered((5, 6, 7, 8, 9), 1), Answered((5, 6, 7, 9, 9, 4), 3), Answered((5, 9, 7), 2)]
    samples = JointSamples(twins(tokenizer), twins(tokenizer)[:2], free)
    tuner = JointTuner(model, samples, [Head(1, 2, 0.0), Head(2, 0, 0.0)], settings)
    records = list(tuner.tune())
    return records[-1].loss, records[-1].validation, *tuner.change.parameters()


ALL: list[Work] = [scored, generated, attributed, observed, replayed, tuned, tuned_jointly]


def fresh(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    return tiny.build_model("llama", dtype=torch.float64).requires_grad_(False)


@pytest.mark.parametrize(
    "work",
    [pytest.param(work, marks=pytest.mark.long) if work is tuned_jointly else work for work in ALL],
)
def test_memory_that_runs_out_anywhere_changes_no_figure(
    work: Work, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "clear_device_cache", lambda **_: None)  # it takes long
    never = Once(0)
    with never:
        expected = work(fresh(tokenizer), tokenizer)
    refused, step = 0, max(1, never.count // PLACES)
    for place in range(1 + step // 2, never.count, step):
        model = fresh(tokenizer)
        try:
            with Once(place):
                found = work(model, tokenizer)
        except torch.OutOfMemoryError:  # beside the model's work, as while copying rows
            refused += 1
            continue
        # What is not of the model's dtype is float32.
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    assert refused <= 3


@pytest.mark.parametrize("work", ALL)
def test_a_single_one_that_does_not_fit_ends_in_a_sentence(
    work: Work, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = fresh(tokenizer)
    layer = model.model.layers[0 if work is replayed else 2]  # which replay idles
    broken = layer.mlp.register_forward_pre_hook(fail)
    with pytest.raises(OutOfMemoryError) as caught:
        work(model, tokenizer)
    broken.remove()
    sentence = str(caught.value)
    longest = max(len(prompt.token_ids) for prompt in prompts(tokenizer))
    if work is not tuned_jointly:  # what it answers freely comes first
        assert f"a batch of one, {longest} tokens," in sentence
    assert sentence.startswith("Memory ran out on cpu while ")
    assert "beside the weights in float64" in sentence
    assert "shorten the longest question or context" in sentence
    assert "\n" not in sentence
    work(model, tokenizer)  # nothing is left behind


def fail(*_: object, **__: object) -> None:
    raise torch.OutOfMemoryError(MESSAGE)


def test_attribution_counts_no_batch_twice(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "clear_device_cache", lambda **_: None)
    some, ends = prompts(tokenizer), list[int]()
    pairs = list(zip(some[::2], some[1::2], strict=True))
    model, never = fresh(tokenizer), Once(0)
    with never:
        expected = attribution(model, pairs, 3, lambda done: ends.append(never.count))
    for place in range(ends[1] - 9, ends[1] + 1):  # where the second batch is added to the first
        with Once(place):
            found = attribution(model, pairs, 3)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


def test_what_does_not_fit_on_the_device_is_kept_elsewhere() -> None:
    memory, cpu = ActivationMemory(), torch.device("cpu")
    first, second = memory.places(cpu)
    first.make = fail
    kept = memory.keep(10, 4, torch.float32, cpu)
    assert kept is not None
    assert (first.held, second.held) == (0, 160)
    assert first.limit == 0  # it is not tried again
    second.make = fail
    assert memory.keep(10, 4, torch.float32, cpu) is None


RUNTIME_ERRORS = (
    MESSAGE,
    "HIP out of memory. Tried to allocate 20.00 MiB.",
    "CUDA error: out of memory\nCUDA kernel errors might be reported later",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if",
    "MPS backend out of memory (MPS allocated: 9.0 GB, other allocations: 0)",
    "Invalid buffer size: 24.00 GB",
    "unable to mmap 1000 bytes from file <x>: Cannot allocate memory (12)",
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
    "memory: you tried to allocate 4000000000000 bytes. Error code 12",
)
ERRORS = [torch.OutOfMemoryError("Allocation on device"), MemoryError()]
ERRORS += [OSError(errno.ENOMEM, "Cannot allocate memory"), *map(RuntimeError, RUNTIME_ERRORS)]


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_full_memory_is_told_from_other_errors(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(OSError(errno.ENOSPC, "No space left on device"))
    assert not is_out_of_memory(ValueError(MESSAGE))
    assert not is_out_of_memory(typer.Exit(2))  # a RuntimeError


def test_a_real_allocation_that_fails_is_full_memory() -> None:
    with pytest.raises(OutOfMemoryError, match="while trying"), explained("trying"):
        torch.empty(2**58, dtype=torch.uint8)


def test_what_the_work_held_is_freed_while_the_error_is_kept(llama: Any) -> None:
    model, held = llama[0], list[weakref.ref[Tensor]]()

    def work(indices: list[int]) -> None:
        assert not [tensor for tensor in held if tensor() is not None]  # before it is tried again
        large = torch.zeros(1000)
        held.append(weakref.ref(large))
        raise torch.OutOfMemoryError(MESSAGE)

    with pytest.raises(OutOfMemoryError) as caught:
        batches.in_batches(model, prompts(llama[1]), 4, work, doing="trying")
    assert len(held) == 3
    assert [tensor() for tensor in held] == [None] * 3
    assert "trying" in str(caught.value)


def test_attention_maps_and_neutral_texts_end_in_a_sentence(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    model = fresh(tokenizer)
    asked = prompts(tokenizer)[:1]
    expected = attention_map(model, asked, [(0, 0)])[0][0].last
    hook = model.model.layers[0].register_forward_pre_hook(fail)
    with pytest.raises(OutOfMemoryError, match="while reading the attention"):
        attention_map(model, asked, [(0, 0)])
    with pytest.raises(OutOfMemoryError, match="while comparing neutral texts: it does not fit"):
        compare_neutral(model, tokenizer, on=lambda _: pytest.fail("not reached"))
    hook.remove()
    assert torch.equal(attention_map(model, asked, [(0, 0)])[0][0].last, expected)


def test_a_recorder_that_could_not_be_set_up_records_no_other_pass(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, real, count = scored(fresh(tokenizer), tokenizer), NasRecorder.expect, 0

    def expect(self: NasRecorder, positions: Positions | None) -> None:
        nonlocal count
        real(self, positions)
        count += 1
        if count == 1:
            raise torch.OutOfMemoryError(MESSAGE)

    monkeypatch.setattr(NasRecorder, "expect", expect)
    torch.testing.assert_close(scored(fresh(tokenizer), tokenizer), expected, atol=1e-6, rtol=1e-6)
