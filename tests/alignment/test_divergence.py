"""What is kept of free answers: where they are cut off, and how far a model has moved from them."""

import pytest
import torch

import tiny
from nasalign.alignment.activations import ActivationMemory
from nasalign.alignment.divergence import Divergence, beginnings
from nasalign.alignment.knowledge import Parametric
from nasalign.data.prompts import PromptBuilder
from nasalign.data.qa import Question
from nasalign.nas.generation import TokenIds

PROMPTS = [TokenIds((5, 6, 7)), TokenIds((5, 6, 8, 9, 10)), TokenIds((5, 11))]


@pytest.mark.parametrize("name", ["llama", "gpt_neox", "gemma2"])
def test_it_is_that_of_the_whole_vocabulary(name: str) -> None:
    model = tiny.build_model(name).double().requires_grad_(False)
    weight = model.base_model.get_submodule("layers.2").mlp
    kept = Divergence(model, PROMPTS, 2, None, ActivationMemory(None))
    assert float(kept.of([0, 1, 2])) == pytest.approx(0, abs=1e-12)

    def says(prompt: TokenIds) -> torch.Tensor:
        return model(input_ids=torch.tensor([prompt.token_ids])).logits[0, -1].softmax(-1)

    before = [says(prompt) for prompt in PROMPTS]
    for parameter in weight.parameters():
        parameter.mul_(3)
    after = [says(prompt) for prompt in PROMPTS]
    expected = [float((p * (p / q).log()).sum()) for p, q in zip(before, after, strict=True)]
    assert min(expected) > 1e-6
    for places in ([0], [2, 0], [1, 1, 2]):
        mean = sum(expected[place] for place in places) / len(places)
        assert float(kept.of(places)) == pytest.approx(mean, rel=1e-9)


@pytest.mark.parametrize("chat", [False, True])
def test_an_answer_is_cut_off_anywhere(chat: bool) -> None:
    builder = PromptBuilder(tiny.build_tokenizer(), chat=chat)
    question = Question("Who wrote Hamlet?", "Shakespeare")
    answer = Parametric(question, "It was Shakespeare who wrote it", True)
    asked = builder.parametric(question)
    whole = builder.parametric(question, answer.prediction)
    assert whole[: len(asked)] == asked
    assert len(whole) >= len(asked) + 4
    found = {one.token_ids for one in beginnings(builder, [answer] * 200, 0)}
    assert found == {whole[:end] for end in range(len(asked), len(whole) + 1)}
