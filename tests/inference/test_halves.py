"""Two halves at once answer as one model does, also while rows of the model are swapped."""

import time

import pytest
import torch
from transformers import PreTrainedModel

import tiny
from nasalign.inference import halves as halves_module
from nasalign.inference.halves import Halves, _middle
from nasalign.inference.prefix_groups import score_in_groups
from nasalign.inference.scoring import Scores
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder


@pytest.fixture
def prompts() -> list[BinaryPrompt]:
    builder = PromptBuilder(tiny.build_tokenizer())
    return [
        builder.conversation([("user", f"{'The tower. ' * (number % 5)}Is it {number}? Yes or No")])
        for number in range(24)
    ]


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halves_module, "LEAST_TOKENS", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


@pytest.mark.parametrize("name", ["llama", "gemma2", "phi3", "gpt_neox"])
def test_two_halves_answer_as_one(name: str, prompts: list[BinaryPrompt]) -> None:
    model = tiny.build_model(name)
    halves = Halves(model)
    assert len(halves.models) == 2
    for _ in range(3):
        found, expected = halves.score(prompts), score_in_groups(model, prompts)
        assert torch.allclose(found.p_positive, expected.p_positive, rtol=1e-4, atol=1e-9)
        assert torch.allclose(found.p_negative, expected.p_negative, rtol=1e-4, atol=1e-9)
        assert found.verdicts == expected.verdicts
        weight = next(model.parameters())  # of both: as an adapter does it, in place
        with torch.no_grad():
            weight.mul_(1.5)


def test_the_twin_has_no_weights_of_its_own() -> None:
    model = tiny.build_model("llama")
    one, twin = Halves(model).models
    assert one is model
    assert twin is not model
    assert {id(weight) for weight in twin.parameters()} == {id(one) for one in model.parameters()}
    assert not {id(part) for part in twin.modules()} & {id(part) for part in model.modules()}


def test_one_model_does_all_where_there_is_one_core(
    monkeypatch: pytest.MonkeyPatch, prompts: list[BinaryPrompt]
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    halves = Halves(tiny.build_model("llama"))
    assert len(halves.models) == 1
    assert len(halves.score(prompts).verdicts) == len(prompts)


def test_a_single_prompt_has_no_halves_however_long_it_is(prompts: list[BinaryPrompt]) -> None:
    model = tiny.build_model("llama")
    found, expected = Halves(model).score(prompts[:1]), score_in_groups(model, prompts[:1])
    assert torch.equal(found.p_positive, expected.p_positive)


def test_what_fails_in_a_half_is_raised(
    monkeypatch: pytest.MonkeyPatch, prompts: list[BinaryPrompt]
) -> None:
    halves = Halves(tiny.build_model("llama"))

    done: list[int] = []

    def fails(model: PreTrainedModel, asked: list[BinaryPrompt]) -> Scores:
        if model is halves.models[0]:
            raise MemoryError("half")
        time.sleep(0.2)
        done.append(len(asked))
        return score_in_groups(model, asked)

    monkeypatch.setattr(halves_module, "score_in_groups", fails)
    with pytest.raises(MemoryError, match="half"):
        halves.score(prompts)
    assert len(done) == 1  # the other half is waited for


def test_halves_have_about_as_many_tokens() -> None:
    assert _middle([5, 5]) == 1
    assert _middle([1, 1, 1, 1, 10]) == 4
    assert _middle([10, 1, 1, 1]) == 1
    assert _middle([3, 3, 3, 3]) == 2
