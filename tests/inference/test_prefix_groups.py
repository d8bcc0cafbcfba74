"""Prompts in groups by what they begin with: which groups, and the same figures."""

import random
from dataclasses import dataclass

import pytest
import torch

import tiny
from nasalign.inference import batches
from nasalign.inference import prefix_groups as groups_module
from nasalign.inference.prefix import Beginnings
from nasalign.inference.prefix_groups import (
    PASS_TOKENS,
    TokenTree,
    prefix_groups,
    score_in_groups,
    tokens_to_run,
)
from nasalign.inference.scoring import score_prompts
from nasalign.prompts.builder import PromptBuilder


@dataclass(frozen=True)
class Tokens:
    token_ids: tuple[int, ...]


def prompt(*parts: tuple[int, int]) -> Tokens:
    """Of parts of a token so many times."""
    return Tokens(tuple(token for token, count in parts for _ in range(count)))


def of(prompts: list[Tokens]) -> list[tuple[list[int], int]]:
    return sorted((sorted(members), prefix) for members, prefix in prefix_groups(prompts))


def test_questions_about_one_long_text_are_a_group_among_others() -> None:
    long = PASS_TOKENS * 4
    prompts = [
        prompt((1, 40), (2, long), (5, 3)),
        prompt((1, 40), (6, 9)),
        prompt((1, 40), (2, long), (7, 2)),
        prompt((1, 40), (3, long), (8, 1)),
        prompt((1, 40), (3, long), (9, 1)),
        prompt((1, 40), (4, 5)),
    ]
    assert of(prompts) == [([0, 2], 40 + long), ([1, 5], 40), ([3, 4], 40 + long)]


def test_a_short_beginning_makes_no_group() -> None:
    prompts = [prompt((1, 10), (n // 2 + 2, 20), (n + 9, 3)) for n in range(4)]
    assert of(prompts) == [([0, 1, 2, 3], 10)]


@pytest.mark.parametrize("seed", range(20))
def test_every_prompt_is_in_one_group_and_no_group_costs_tokens(seed: int) -> None:
    random_ = random.Random(seed)
    texts = [[random_.randint(0, 2) for _ in range(600)] for _ in range(3)]
    prompts = [
        Tokens(
            tuple(random_.choice(texts)[: random_.randint(1, 600)] + [random_.randint(3, 5)] * 3)
        )
        for _ in range(random_.randint(1, 30))
    ]
    found = prefix_groups(prompts)
    assert sorted(index for members, _ in found for index in members) == list(range(len(prompts)))
    for members, prefix in found:
        assert len({prompts[index].token_ids[:prefix] for index in members}) == 1
        assert all(prefix < len(prompts[index].token_ids) for index in members)
    cost = sum(tokens_to_run([prompts[index] for index in members]) for members, _ in found)
    assert cost <= tokens_to_run(prompts)


def test_prompts_nested_a_thousandfold_are_grouped() -> None:
    prompts = [Tokens((1,) * length) for length in range(1, 1200)]
    found = prefix_groups(prompts)
    assert sorted(index for members, _ in found for index in members) == list(range(len(prompts)))


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "qwen2"])
def test_scores_are_those_of_each_prompt_alone(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.build_model(architecture)
    builder = PromptBuilder(tiny.build_tokenizer())
    monkeypatch.setattr(groups_module, "PASS_TOKENS", 4)
    monkeypatch.setattr(batches, "CPU_TOKENS", 400)  # several batches share what has run
    texts = ("The tower is in Paris. " * 6, "It is 330 m high. " * 5)
    prompts = [
        builder.conversation([("user", text + f"Is it {number}? " * (number % 4))])
        for number in range(7)
        for text in (*texts, "")
    ]
    assert len(prefix_groups(prompts)) > 2
    found = score_in_groups(model, prompts)
    alone = [score_prompts(model, [one], record=False) for one in prompts]
    for name in ("p_positive", "p_negative"):
        expected = torch.cat([getattr(one, name) for one in alone])
        assert torch.allclose(getattr(found, name), expected, rtol=1e-4, atol=1e-9)
    assert found.verdicts == [one.verdicts[0] for one in alone]
    assert len(set(found.p_positive.tolist())) > 10  # they are not all the same anyway


def test_a_tree_counts_what_prompts_share_once() -> None:
    rng = random.Random(0)
    prompts = [
        Tokens(tuple(rng.choice((1, 2)) for _ in range(rng.randint(1, 9)))) for _ in range(60)
    ]
    tree = TokenTree()
    for count, one in enumerate(prompts, start=1):
        tree.add([one])
        beginnings = {
            other.token_ids[:end]
            for other in prompts[:count]
            for end in range(1, len(other.token_ids) + 1)
        }
        assert tree.tokens == len(beginnings)


def test_what_groups_begin_with_runs_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.build_model("llama")
    builder = PromptBuilder(tiny.build_tokenizer())
    monkeypatch.setattr(groups_module, "PASS_TOKENS", 4)
    prompts = [
        builder.conversation(
            [("user", "The tower is high. " * times + f"Is it {number}? Yes or No")]
        )
        for number in range(4)
        for times in (1, 4, 9)
    ]
    groups = prefix_groups(prompts)
    assert len(groups) >= 3
    begun = {prompts[members[0]].token_ids[:end] for members, end in groups}
    every = {tokens[:end] for tokens in begun for end in range(1, len(tokens) + 1)}
    ran: list[int] = []
    hook = model.get_decoder().register_forward_pre_hook(
        lambda module, inputs, named: (
            ran.append(named["input_ids"].shape[1]) if len(named["input_ids"]) == 1 else None
        ),
        with_kwargs=True,
    )
    beginnings = Beginnings(model)
    for tokens in sorted(begun):
        left = beginnings.cache(tokens)
        assert left.get_seq_length() == len(tokens)
    assert sum(ran) == len(every)
    hook.remove()
