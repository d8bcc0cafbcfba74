"""Prompts in one row get the logits and gradients of prompts one by one, or are not packed."""

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import architectures
import tiny
from nasalign.data.records import BinaryExample
from nasalign.head_rows.activations import ActivationMemory
from nasalign.head_rows.replay import Replay
from nasalign.inference import packed as packed_module
from nasalign.inference.forward import answer_logits
from nasalign.inference.packed import packed, packed_logits, packs_exactly
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder


@pytest.fixture
def prompts(tokenizer: PreTrainedTokenizerFast) -> list[BinaryPrompt]:
    builder = PromptBuilder(tokenizer)
    return [
        builder.binary(BinaryExample(question, True, answer))
        for question in ("What is one?", "Who is the author of six seven eight?")
        for answer in ("two", "three four", "two")
    ]


def alone(model: PreTrainedModel, prompts: list[BinaryPrompt]) -> torch.Tensor:
    return torch.stack([model(torch.tensor([one.token_ids])).logits[0, -1] for one in prompts])


def test_what_prompts_begin_with_stands_once(prompts: list[BinaryPrompt]) -> None:
    pack = packed(prompts)
    assert pack is not None
    beginnings = {
        one.token_ids[: size + 1] for one in prompts for size in range(len(one.token_ids))
    }
    assert len(pack.token_ids) == len(beginnings)
    for one, path in zip(prompts, pack.paths, strict=True):
        assert tuple(pack.token_ids[place] for place in path) == one.token_ids
        assert pack.positions[path].tolist() == list(range(len(one.token_ids)))
        for size, place in enumerate(path, start=1):
            assert pack.sees[place].nonzero()[:, 0].tolist() == sorted(path[:size].tolist())


def test_logits_equal_each_prompt_alone(family: str, prompts: list[BinaryPrompt]) -> None:
    model = tiny.build_model(family, dtype=torch.float64)
    exact = packs_exactly(model, prompts)
    assert exact == (family not in tiny.SHORT_WINDOWS)
    if exact:
        with torch.no_grad():
            found, expected = packed_logits(model, prompts), alone(model, prompts)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", list(architectures.TYPES))
def test_every_other_architecture_packs_exactly_or_not_at_all(
    name: str, prompts: list[BinaryPrompt]
) -> None:
    model = architectures.build(name, torch.float64)
    if packs_exactly(model, prompts):
        with torch.no_grad():
            found, expected = packed_logits(model, prompts), alone(model, prompts)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["qwen3_next", "falcon_h1", "bamba"])
def test_recurrent_layers_are_not_packed(name: str, prompts: list[BinaryPrompt]) -> None:
    assert not packs_exactly(architectures.build(name, torch.float64), prompts)


@pytest.mark.parametrize("name", ["llama", "phi3"])
def test_gradients_equal_those_of_a_batch(name: str, prompts: list[BinaryPrompt]) -> None:
    model = tiny.build_model(name, dtype=torch.float64)
    gradients = []
    for pass_over in (packed_logits, answer_logits):
        model.zero_grad()
        weights = torch.arange(len(prompts), dtype=torch.float64)
        (pass_over(model, prompts)[:, 7] * weights).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 10
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-3)


def test_too_long_a_row_runs_as_a_batch(
    prompts: list[BinaryPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.build_model("llama", dtype=torch.float64)
    monkeypatch.setattr(packed_module, "MOST_TOKENS", 3)
    assert packed(prompts) is None
    assert not packs_exactly(model, prompts)  # nothing was tried
    with torch.no_grad():
        found = packed_logits(model, prompts)
        torch.testing.assert_close(found, alone(model, prompts), atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", ["llama", "phi3", "mistral"])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_replay_of_packed_prompts(name: str, layer: int, prompts: list[BinaryPrompt]) -> None:
    model = tiny.build_model(name, dtype=torch.float64)
    replay = Replay(model, prompts, 4, ActivationMemory(), pack=True)
    assert replay.packs == (name not in tiny.SHORT_WINDOWS)
    replay.prepare(layer)
    places, last = [4, 0, 1], [1, 3, 2]
    with torch.no_grad():
        found = replay.logits(places, layer, last=last)
        whole = answer_logits(model, [prompts[place] for place in places], prefix=0, last=last)
    torch.testing.assert_close(found, whole, atol=1e-6, rtol=0)
