"""Attribution equals the gradient of the plain model, one prompt at a time."""

import pytest
import torch
from transformers import PreTrainedTokenizerFast

import tiny
from nasalign.data.records import BinaryExample
from nasalign.models.geometry import HeadGeometry
from nasalign.nasa_plus.attribution import answer_log_odds, attribution
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder

ANSWERS = (("Paris", "Rome"), ("the yen", "Au"), ("William Shakespeare", "1945"))
PLACES = ("France", "Japan and the world", "Hamlet")


def pairs(tokenizer: PreTrainedTokenizerFast) -> list[tuple[BinaryPrompt, BinaryPrompt]]:
    builder = PromptBuilder(tokenizer)
    return [
        (
            builder.binary(BinaryExample(f"What is there in {place}?", True, right)),
            builder.binary(BinaryExample(f"What is there in {place}?", False, wrong)),
        )
        for place, (right, wrong) in zip(PLACES, ANSWERS, strict=True)
    ]


def literal_odds(model: torch.nn.Module, prompt: BinaryPrompt) -> torch.Tensor:
    chances = model(input_ids=torch.tensor([prompt.token_ids])).logits[0, -1].softmax(-1)
    yes, no = (
        sum(chances[token] for token in tokens)
        for tokens in (prompt.answers.positive, prompt.answers.negative)
    )
    return torch.log(yes) - torch.log(no)


@pytest.mark.parametrize("name", ["llama", "gemma3", "phi3", "gpt_neox", "qwen3"])
@pytest.mark.parametrize("batch_size", [None, 1, 4])
def test_it_is_the_gradient_of_the_plain_model(
    name: str, batch_size: int | None, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = tiny.build_model(name).double().requires_grad_(False)
    chosen = pairs(tokenizer)
    found = attribution(model, chosen, batch_size)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    model.requires_grad_(True)
    total = sum(literal_odds(model, right) - literal_odds(model, wrong) for right, wrong in chosen)
    total.backward()
    geometry = HeadGeometry.of(model)
    assert found.shape == (geometry.layers, geometry.heads)
    for layer in range(geometry.layers):
        for head in range(geometry.heads):
            where = geometry.rows(layer, head).query
            gradient = model.get_submodule(where.module).weight.grad[where.start : where.stop]
            expected = float(gradient.norm()) / len(chosen)
            assert float(found[layer, head]) == pytest.approx(expected, rel=1e-6)


def test_the_log_odds_are_of_the_summed_surface_forms(tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny.build_model("llama").double()
    prompts = [prompt for pair in pairs(tokenizer) for prompt in pair]
    logits = torch.stack(
        [model(input_ids=torch.tensor([one.token_ids])).logits[0, -1] for one in prompts]
    )
    expected = torch.stack([literal_odds(model, prompt) for prompt in prompts])
    assert torch.allclose(answer_log_odds(logits, prompts), expected, atol=1e-12)


def test_what_moves_both_answers_alike_cancels(tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny.build_model("llama").double().requires_grad_(False)
    same = [(right, right) for right, _ in pairs(tokenizer)]
    assert attribution(model, same).abs().max() < 1e-12
