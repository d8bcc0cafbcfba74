"""Batches hold so many tokens, and half of them where memory runs out."""

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import tiny
from nasalign.config import Settings
from nasalign.data.records import BinaryExample
from nasalign.errors import OutOfMemoryError
from nasalign.inference.batches import in_batches, sorted_batches
from nasalign.inference.generation import TokenIds, generate
from nasalign.inference.scoring import score_prompts
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


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. "), OutOfMemoryError),
        (RuntimeError("another"), RuntimeError),
    ],
)
def test_what_cannot_be_halved_is_raised(
    llama: Llama, error: RuntimeError, raised: type[Exception]
) -> None:
    def work(indices: list[int]) -> None:
        raise error

    size = 1 if isinstance(error, torch.OutOfMemoryError) else 3
    with pytest.raises(raised):
        in_batches(llama[0], PROMPTS, size, work, doing="counting")


class Small:
    """Stands in for a device that holds few samples: a model of more raises."""

    def __init__(self, model: PreTrainedModel, most: int) -> None:
        self.most, self.refused = most, 0
        model.model.layers[-1].register_forward_pre_hook(self._refuse)

    def _refuse(self, module: object, inputs: tuple[torch.Tensor, ...]) -> None:
        if inputs[0].shape[0] > self.most:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")


def test_scores_and_answers_are_the_same_on_a_small_device(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    model = tiny.build_model("llama", dtype=torch.float64)
    prompts = [PromptBuilder(tokenizer).binary(example) for example in EXAMPLES]
    scores = score_prompts(model, prompts)
    answers = generate(model, tokenizer, prompts, 4)
    small = Small(model, 2)
    again = score_prompts(model, prompts)
    torch.testing.assert_close(again.nas, scores.nas, atol=1e-12, rtol=0)
    torch.testing.assert_close(again.p_positive, scores.p_positive, atol=1e-7, rtol=0)
    assert generate(model, tokenizer, prompts, 4).texts == answers.texts
    assert small.refused > 1


def test_tuning_is_the_same_on_a_small_device(tokenizer: PreTrainedTokenizerFast) -> None:
    settings = Settings(learning_rate=1e-2, epochs=2, tuning_batch_size=7)
    results = []
    for most in (100, 2):
        model = tiny.build_model("llama", dtype=torch.float64)
        prompts = [PromptBuilder(tokenizer).binary(example) for example in EXAMPLES]
        small = Small(model, most)
        tuner = RowTuner(model, prompts, prompts[:5], settings)
        tuner.begin(Head(1, 2, 1.0))
        losses = [tuner.train_epoch() for _ in range(2)]
        results.append((losses, tuner.measure().nas))
        assert (small.refused > 0) == (most == 2)
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    torch.testing.assert_close(results[0][1], results[1][1], atol=1e-6, rtol=1e-5)
