"""The plain loops that ours are timed against do the same work, and all of it."""

import pytest
from transformers import PreTrainedTokenizerFast

import tiny
from common import random_prompts
from nasalign.config import Settings
from nasalign.nas.heads import Head
from nasalign.nasa_plus.divergence import Answered
from nasalign.nasa_plus.joint_pairs import JointSamples, PromptPair
from nasalign.nasa_plus.joint_tuning import JointTuner
from plain_loops import PlainJointTuner

SETTINGS = Settings(joint_batch_size=4, joint_learning_rate=1e-3, warmup_ratio=0.0)


def test_the_plain_loop_of_nasa_plus_runs_every_layer_to_the_same_loss(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    prompts = random_prompts(12, 200)
    pairs = [PromptPair(*two, "known") for two in zip(prompts[::2], prompts[1::2], strict=True)]
    free = [Answered(prompt.token_ids[:12], 5) for prompt in prompts[:3]]
    losses, lowest = [], []
    for kind in (JointTuner, PlainJointTuner):
        model = tiny.build_model("llama").double().requires_grad_(False)
        tuner = kind(model, JointSamples(pairs[:4], pairs[4:], free), [Head(2, 1, 0.0)], SETTINGS)
        passes = []
        first = model.model.layers[0].self_attn
        first.register_forward_hook(lambda module, inputs, output, seen=passes: seen.append(1))
        losses.append([tuner.train_epoch() for _ in range(2)])
        lowest.append(len(passes))
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)  # the plain one rounds to float32
    assert losses[1][0] != losses[1][1]
    assert lowest == [0, 8]  # two steps an epoch, each with pairs and with free answers
