"""Where layers pass on more than their output, replay is left out, and the figures are right."""

import pytest
import torch
from transformers import PreTrainedTokenizerFast

import architectures
import tiny
from nasalign.config import Settings
from nasalign.data.records import BinaryExample
from nasalign.head_rows.activations import ActivationMemory
from nasalign.head_rows.replay import Replay
from nasalign.head_rows.rows import head_slices
from nasalign.inference.scoring import score_prompts
from nasalign.models.geometry import HeadGeometry
from nasalign.nas.heads import Head, single_head_nas
from nasalign.nas.recorder import NasRecorder
from nasalign.nasa.training import RowTuner
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


@pytest.fixture
def prompts(tokenizer: PreTrainedTokenizerFast) -> list[BinaryPrompt]:
    builder = PromptBuilder(tokenizer)
    return [
        builder.binary(BinaryExample(f"What is {' '.join(WORDS[: count % 5 + 1])}?", True, word))
        for count, word in enumerate(WORDS)
    ]


EXACT = {  # whether a pass may begin at each layer
    "gpt2": "111",
    "deepseek_v3": "111",
    "qwen3_next": "111",
    "granitemoehybrid": "111",
    "zamba2": "1111",
    "bamba": "111",  # its layers return tuples
    "falcon_h1": "111",
    "gemma4": "111",
    "gemma3n": "1000",  # its layers hand on several streams, and keys
    "longcat_flash": "0000",  # one of its modules is two layers
}


@pytest.mark.parametrize("name", EXACT)
def test_replay_is_exact_or_left_out(name: str, prompts: list[BinaryPrompt]) -> None:
    model = architectures.build(name, torch.float64)
    geometry = HeadGeometry.of(model)
    replay = Replay(model, prompts, 4, ActivationMemory())
    last = geometry.layers - 1
    with torch.no_grad(), NasRecorder(model) as recorder:
        whole = replay.logits([7, 2, 5], 0, recorder, share=False)
        expected = recorder.nas.clone()
        assert "".join("01"[replay.exact(layer)] for layer in range(last + 1)) == EXACT[name]
        replay.prepare(last)
        part = replay.logits([7, 2, 5], last, recorder)
    assert set(replay.inputs) == ({last} if EXACT[name][-1] == "1" else set())
    torch.testing.assert_close(part, whole, atol=1e-4, rtol=1e-4)  # recurrence is in float32
    found = recorder.nas[:, last]
    torch.testing.assert_close(found, expected[:, last], atol=1e-4, rtol=1e-4, equal_nan=True)


@pytest.mark.parametrize(("name", "first"), [("zamba2", 1), ("gemma3n", 3), ("llama", 2)])
def test_tuning_begins_at_the_lowest_layer_that_has_the_rows(
    name: str, first: int, prompts: list[BinaryPrompt]
) -> None:
    """Both attention layers of this Zamba 2, 1 and 3, have the same weights."""
    model = tiny.build_model(name) if name == "llama" else architectures.build(name)
    model.requires_grad_(False)
    head = Head(HeadGeometry.of(model).places[-1][0], 1, 0.0)
    settings = Settings(epochs=1, learning_rate=1e-1, tuning_batch_size=4, batch_size=4)
    tuner = RowTuner(model, prompts[:6], prompts[6:], settings, [head])
    assert ("runs the whole model" in tuner.replay_plan()) == (name == "gemma3n")
    before = tuner.measure().nas
    tuner.begin(head)
    assert tuner.layer == first
    tuner.train_epoch()
    measured = tuner.measure().nas
    expected = single_head_nas(score_prompts(model, prompts[6:]).nas)
    assert (before - expected)[first:].nan_to_num().abs().max() > 1e-2
    torch.testing.assert_close(measured, expected, atol=1e-3, rtol=1e-3, equal_nan=True)


def test_a_head_with_the_keys_of_an_earlier_layer_is_tuned_by_its_query() -> None:
    geometry = HeadGeometry.of(architectures.build("gemma3n"))
    assert [len(head_slices(geometry, layer, 0, "group")) for layer in range(4)] == [2, 2, 1, 1]
    assert head_slices(geometry, 3, 1, "group") == (geometry.rows(3, 1).query,)


@pytest.mark.parametrize("name", ["llama", "bamba"])
def test_it_is_said_where_a_beginning_is_not_shared(name: str, prompts: list[BinaryPrompt]) -> None:
    model = tiny.build_model(name) if name == "llama" else architectures.build(name)
    model.requires_grad_(False)
    tuner = RowTuner(model, prompts[:6], prompts[6:], Settings())
    assert ("runs with each of them" in tuner.replay_plan()) == (name == "bamba")
