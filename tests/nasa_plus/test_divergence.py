"""What is kept of free answers: what would follow in them, and how far a model has moved."""

import pytest
import torch

import tiny
from nasalign.data.records import Question
from nasalign.head_rows.activations import ActivationMemory
from nasalign.nasa.knowledge import Parametric
from nasalign.nasa_plus.divergence import Answered, Divergence, answered
from nasalign.prompts.builder import PromptBuilder

ANSWERS = [Answered((5, 6, 7), 1), Answered((5, 6, 8, 9, 10), 4), Answered((5, 11, 12), 2)]


@pytest.mark.parametrize("name", ["llama", "gpt_neox", "gemma2", "mistral"])
def test_it_is_that_of_the_whole_vocabulary_at_every_token_of_the_answers(name: str) -> None:
    model = tiny.build_model(name).double().requires_grad_(False)
    kept = Divergence(model, ANSWERS, 2, None, ActivationMemory(None))
    assert float(kept.of([0, 1, 2])) == pytest.approx(0, abs=1e-12)

    def says(one: Answered) -> torch.Tensor:
        logits = model(input_ids=torch.tensor([one.token_ids])).logits
        return logits[0, -one.own :].softmax(-1)

    before = [says(one) for one in ANSWERS]
    for parameter in model.base_model.get_submodule("layers.2").parameters():
        parameter.mul_(1.5)
    after = [says(one) for one in ANSWERS]
    expected = [(p * (p / q).log()).sum(-1) for p, q in zip(before, after, strict=True)]
    assert min(float(one.min()) for one in expected) > 1e-9
    for places in ([0], [2, 0], [1, 1, 2]):
        mean = float(torch.cat([expected[place] for place in places]).mean())
        assert float(kept.of(places)) == pytest.approx(mean, rel=1e-6)


@pytest.mark.parametrize("chat", [False, True])
def test_an_answer_is_what_follows_the_prompt(chat: bool) -> None:
    builder = PromptBuilder(tiny.build_tokenizer(), chat=chat)
    question = Question("Who wrote Hamlet?", "Shakespeare")
    [one] = answered(builder, [Parametric(question, "It was Shakespeare", True)])
    asked = builder.parametric(question)
    assert one.token_ids[: len(asked)] == asked
    assert one.first_row == len(asked) - 1
    said = builder.tokenizer.decode(one.token_ids[len(asked) :])
    assert said.strip().startswith("It was Shakespeare")
    assert one.own == len(one.token_ids) - len(asked) + 1
