"""A shared prefix changes nothing: logits, NAS and gradients are those of the prompts alone."""

import pytest
import torch
from transformers import PreTrainedTokenizerFast

import architectures
import reference
import tiny
from nasalign.data.records import BinaryExample
from nasalign.inference.forward import answer_logits, prefix_worth_sharing, shares_exactly
from nasalign.inference.prefix import shared_prefix
from nasalign.inference.scoring import score_prompts
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder

QUESTIONS = [
    ("What is one?", "two"),
    ("What is the capital of France and of the sea?", "Paris"),
    ("Who?", "me"),
    ("What is one two three four five six seven?", "eight nine"),
]


@pytest.fixture
def prompts(tokenizer: PreTrainedTokenizerFast) -> list[BinaryPrompt]:
    builder = PromptBuilder(tokenizer)
    return [builder.binary(BinaryExample(question, True, answer)) for question, answer in QUESTIONS]


def test_prefix_ends_before_the_rows_and_within_every_prompt(prompts: list[BinaryPrompt]) -> None:
    shared = shared_prefix(prompts)
    assert shared == min(prompt.first_row for prompt in prompts)
    assert len({prompt.token_ids[:shared] for prompt in prompts}) == 1
    assert shared_prefix(prompts[:1]) == 0
    assert shared_prefix([prompts[0], prompts[0]]) == prompts[0].first_row


def test_prefix_of_different_beginnings(
    prompts: list[BinaryPrompt], tokenizer: PreTrainedTokenizerFast
) -> None:
    other = PromptBuilder(tokenizer, instruction="A").binary(BinaryExample("Who?", True, "me"))
    shared = shared_prefix([*prompts, other])
    assert prompts[0].token_ids[:shared] == other.token_ids[:shared]
    assert prompts[0].token_ids[shared] != other.token_ids[shared]


def test_nas_and_logits_equal_each_prompt_alone(
    family: str, prompts: list[BinaryPrompt], tokenizer: PreTrainedTokenizerFast
) -> None:
    model = tiny.build_model(family, dtype=torch.float64)
    with torch.no_grad(), reference.as_precise(model):
        nas = score_prompts(model, prompts).nas
        together = answer_logits(model, prompts)
        unshared = answer_logits(model, prompts, prefix=0)
        alone = [model(torch.tensor([prompt.token_ids])).logits[0, -1] for prompt in prompts]
    torch.testing.assert_close(together, torch.stack(alone), atol=1e-10, rtol=0)
    torch.testing.assert_close(unshared, torch.stack(alone), atol=1e-10, rtol=0)
    for prompt, found in zip(prompts, nas, strict=True):
        places = (prompt.positive_position, prompt.negative_position, prompt.first_row)
        expected = reference.nas_of_sample(model, torch.tensor(prompt.token_ids), *places)
        torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("name", "shared"),
    [
        *((one, True) for one in ("gpt2", "deepseek_v3", "qwen3_next", "granitemoehybrid")),
        *((one, True) for one in ("zamba2", "falcon_h1", "gemma4", "gemma3n")),
        *((one, False) for one in ("bamba", "minimax")),
    ],
)
def test_a_prefix_is_shared_exactly_or_not_at_all(
    name: str, shared: bool, prompts: list[BinaryPrompt]
) -> None:
    """Recurrent states are shared with the keys, but some modeling files take none up again."""
    model = architectures.build(name, torch.float64)
    with torch.no_grad():
        together = score_prompts(model, prompts).nas
        alone = torch.cat([score_prompts(model, [prompt]).nas for prompt in prompts])
        assert shares_exactly(model, prompts, shared_prefix(prompts)) == shared
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4, equal_nan=True)


def test_a_recurrent_state_is_not_shared_where_gradients_are_wanted(
    prompts: list[BinaryPrompt],
) -> None:
    model = architectures.build("qwen3_next", torch.float64)
    assert prefix_worth_sharing(model, prompts, 7) == 0
    with torch.no_grad():
        assert prefix_worth_sharing(model, prompts, 7) == 7


@pytest.mark.parametrize("name", ["llama", "mistral", "phi3"])
def test_gradients_flow_through_the_shared_keys(name: str, prompts: list[BinaryPrompt]) -> None:
    model = tiny.build_model(name, dtype=torch.float64)
    gradients = []
    for prefix in (None, 0):
        model.zero_grad()
        answer_logits(model, prompts, prefix=prefix)[:, 7].sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 10
    for shared, plain in zip(*gradients, strict=True):
        # The norms of these models run in float32 whatever the weights are.
        torch.testing.assert_close(shared, plain, atol=1e-6, rtol=1e-3)
