"""Memory that runs out halves a batch, or ends in one sentence; the figures stay."""

from __future__ import annotations

import errno
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import tiny
from fault_tools import assert_same_run, invoke, refused
from memory_limit import MESSAGE, Limit, Once
from nasalign.alignment import training
from nasalign.alignment.activations import ActivationMemory
from nasalign.alignment.attribution import attribution
from nasalign.alignment.divergence import Answered
from nasalign.alignment.joint import JointTuner, Samples, Twins
from nasalign.alignment.replay import Replay
from nasalign.alignment.training import RowTuner
from nasalign.config import Settings
from nasalign.data.prompts import BinaryPrompt, PromptBuilder
from nasalign.data.qa import BinaryExample
from nasalign.errors import OutOfMemoryError
from nasalign.evaluation.side_effects import compare_neutral
from nasalign.models import loading
from nasalign.models.loading import load
from nasalign.models.memory import explained, is_out_of_memory
from nasalign.nas.attention_map import attention_map
from nasalign.nas.generation import generate
from nasalign.nas.heads import Head
from nasalign.nas.scoring import score_prompts
from nasalign.rivals.observed import last_inputs
from nasalign.rivals.offset import balanced
from nasalign.rivals.rival import Material
from rivals.material import material as material_of

Work = Callable[[PreTrainedModel, PreTrainedTokenizerFast], Any]
PLACES = 5  # of all operations, at which memory runs out


def prompts(tokenizer: PreTrainedTokenizerFast, count: int = 6) -> list[BinaryPrompt]:
    builder = PromptBuilder(tokenizer)
    return [
        builder.binary(BinaryExample(f"Is {'very ' * (place % 4)}{place} true?", True))
        for place in range(count)
    ]


def twins(tokenizer: PreTrainedTokenizerFast) -> list[Twins]:
    both = prompts(tokenizer, 12)
    return [Twins(*pair, "known") for pair in zip(both[::2], both[1::2], strict=True)]


def scored(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Any:
    scores = score_prompts(model, prompts(tokenizer))
    return scores.nas, scores.p_positive, scores.p_negative


def generated(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Any:
    return generate(model, tokenizer, prompts(tokenizer), 3)


def attributed(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Any:
    some = prompts(tokenizer)
    return attribution(model, list(zip(some[::2], some[1::2], strict=True)), batch_size=3)


def observed(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Any:
    return last_inputs(model, prompts(tokenizer), ["model.layers.1", "model.layers.2"])


def offset(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Any:
    return balanced(model, prompts(tokenizer), torch.ones(3, 4, dtype=torch.bool), batch_size=3)


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
    samples = Samples(twins(tokenizer), twins(tokenizer)[:2], free)
    tuner = JointTuner(model, samples, [Head(1, 2, 0.0), Head(2, 0, 0.0)], settings)
    records = list(tuner.tune())
    return records[-1].loss, records[-1].validation, *tuner.rows.parameters.values()


ALL: list[Work] = [scored, generated, attributed, observed, offset, replayed, tuned, tuned_jointly]


def fresh(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    return tiny.build_model("llama", dtype=torch.float64).requires_grad_(False)


@pytest.mark.parametrize("work", ALL)
def test_memory_that_runs_out_anywhere_changes_no_figure(
    work: Work, tokenizer: PreTrainedTokenizerFast
) -> None:
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
    assert refused <= 1


@pytest.mark.parametrize("work", ALL)
def test_a_single_one_that_does_not_fit_ends_in_a_sentence(
    work: Work, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = fresh(tokenizer)
    broken = model.model.layers[2].mlp.register_forward_pre_hook(fail)
    if work is replayed:  # what is above the layer does not run
        broken = model.model.layers[0].mlp.register_forward_pre_hook(fail)
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


def fail(*_: object) -> None:
    raise torch.OutOfMemoryError(MESSAGE)
