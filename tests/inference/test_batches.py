"""Batches hold so many tokens, and half of them where memory runs out."""

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import tiny
from nasalign.config import Settings
from nasalign.data.records import BinaryExample
from nasalign.inference.batches import in_batches, sorted_batches
from nasalign.inference.generation import TokenIds
from nasalign.nas.heads import Head
from nasalign.nasa.training import RowTuner
from nasalign.prompts.builder import PromptBuilder

Llama = tuple[PreTrainedModel, PreTrainedTokenizerFast]
PROMPTS = [TokenIds(tuple(range(length))) for length in (3, 9, 1, 4, 4, 20)]
EXAMPLES = [BinaryExample(f"Is {'very ' * n}true?", True) for n in range(9)]


def test_batches_are_sorted_and_bounded_by_tokens() -> None:
    assert sorted_batches(PROMPTS, None, tokens=20) == [[5], [1, 3], [4, 0, 2]]
    assert sorted_batches(PROMPTS, None, tokens=2) == [[5], [1], [3], [4], [0], [2]]
    assert sorted_batches(PROMPTS, 4) == [[5, 1, 3, 4], [0, 2]]
    assert sorted_batches([], None) == []
    alike = sorted_batches(PROMPTS, 4, padding=0)
    assert alike == [[5], [1], [3, 4], [0], [2]]
    assert sorted_batches(PROMPTS, None, tokens=100) == [[5, 1, 3, 4, 0], [2]]
    assert sorted_batches(PROMPTS, None, tokens=100, padding=8) == [[5], [1, 3], [4, 0, 2]]


def test_a_batch_that_does_not_fit_is_halved_and_all_is_done(llama: Llama) -> None:
    worked: list[list[int]] = []
    done: list[int] = []

    def work(indices: list[int]) -> None:
        if len(indices) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        worked.append(indices)

    in_batches(llama[0], PROMPTS, 6, work, done.append, doing="counting")
    assert sorted(index for batch in worked for index in batch) == list(range(6))
    assert sum(done) == 6
    assert max(map(len, worked)) == 2


def test_another_error_is_raised_as_it_is(llama: Llama) -> None:
    def work(indices: list[int]) -> None:
        raise RuntimeError("another")

    with pytest.raises(RuntimeError, match="another"):
        in_batches(llama[0], PROMPTS, 3, work, doing="counting")


@pytest.mark.long
def test_tuning_is_the_same_on_a_small_device(tokenizer: PreTrainedTokenizerFast) -> None:
    settings = Settings(learning_rate=1e-2, epochs=2, tuning_batch_size=7)
    results = []
    for most in (100, 2):
        model = tiny.build_model("llama", dtype=torch.float64)
        prompts = [PromptBuilder(tokenizer).binary(example) for example in EXAMPLES]
        refused: list[int] = []

        def refuse(module: object, inputs: tuple[Tensor, ...], most=most, refused=refused) -> None:
            if len(inputs[0]) > most:
                refused.append(len(inputs[0]))
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

        model.model.layers[-1].register_forward_pre_hook(refuse)
        tuner = RowTuner(model, prompts, prompts[:5], settings)
        tuner.begin(Head(1, 2, 1.0))
        losses = [tuner.train_epoch() for _ in range(2)]
        results.append((losses, tuner.measure().nas))
        assert bool(refused) == (most == 2)
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    torch.testing.assert_close(results[0][1], results[1][1], atol=1e-6, rtol=1e-5)
