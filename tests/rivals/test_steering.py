"""The steering vector: what it is, what adding it does, how it is chosen, what it leaves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import tiny
from nasalign.data.records import BinaryExample
from nasalign.errors import NasAlignError
from nasalign.inference.generation import TokenIds, generate
from nasalign.prompts.builder import PromptBuilder
from nasalign.rivals import steering
from nasalign.rivals.observed import answer_pair, some_of_each
from nasalign.rivals.rival import Material, balanced_accuracy, odds_of
from nasalign.rivals.steering import STEERING, SteeringVector, contrast
from rivals.material import hooks, logits, material, same_in_a_batch

Tiny = tuple[PreTrainedModel, PreTrainedTokenizerFast]


@pytest.fixture
def given(llama: Tiny) -> Material:
    return material(*llama)


def vector(model: PreTrainedModel) -> SteeringVector:
    noise = torch.randn(model.config.hidden_size, generator=torch.Generator().manual_seed(1))
    return SteeringVector(1, 4.0 * noise / noise.norm())


@torch.no_grad()
def test_it_is_added_by_hand_to_what_enters_the_layer(llama: Tiny) -> None:
    model, _ = llama
    change, ids = vector(model), torch.arange(5, 25)[None]
    below = model(input_ids=ids, output_hidden_states=True).hidden_states[1]
    above = tiny.build_model("llama")
    above.model.layers = above.model.layers[1:]
    above.config.num_hidden_layers -= 1
    expected = above(inputs_embeds=below + change.vector, use_cache=False).logits
    with change.on(model):
        torch.testing.assert_close(logits(model), expected)
    assert (logits(model) - expected).abs().max() > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_afterwards_the_model_is_as_before_to_the_bit(family: str, dtype: torch.dtype) -> None:
    model = tiny.build_model(family, dtype=dtype)
    before = logits(model)
    with vector(model).on(model):
        during = logits(model)
    assert during.dtype == dtype
    assert not during.equal(before)
    with pytest.raises(KeyboardInterrupt), vector(model).on(model):
        raise KeyboardInterrupt
    assert logits(model).equal(before)
    assert hooks(model) == 0


def test_in_a_batch_with_a_shared_prefix_it_does_what_it_does_to_a_prompt_alone(
    given: Material,
) -> None:
    with vector(given.model).on(given.model):
        same_in_a_batch(given)


def test_while_an_answer_is_generated_it_is_added_to_every_token(given: Material) -> None:
    builder, model = given.builder(), given.model
    prompts = [TokenIds(builder.binary(one).token_ids) for one in given.development[:6]]
    plain = generate(model, given.session.tokenizer, prompts, 6).texts
    with vector(model).on(model):
        found = generate(model, given.session.tokenizer, prompts, 6).texts
        expected = [written(given, prompt, 6) for prompt in prompts]
    assert found == expected
    assert found != plain


def written(given: Material, prompt: TokenIds, count: int) -> str:
    """Greedy decoding without a cache, to the end of the first line."""
    ids = list(prompt.token_ids)
    for _ in range(count):
        ids.append(int(logits(given.model, torch.tensor([ids]))[0, -1].argmax()))
        if ids[-1] == given.session.tokenizer.eos_token_id:
            break
    text = given.session.tokenizer.decode(ids[len(prompt.token_ids) :], skip_special_tokens=True)
    return text.lstrip().split("\n")[0].strip()


@torch.no_grad()
def test_the_vector_is_the_mean_difference_at_the_token_of_the_answer(given: Material) -> None:
    builder = given.builder()
    found, norms = contrast(given, given.pairs[:5], [2, 1])
    states: dict[int, list[list[Tensor]]] = {1: [[], []], 2: [[], []]}
    for prompt in map(builder.binary, given.pairs[:5]):
        for side, token in enumerate(answer_pair(given.session.tokenizer, prompt, builder.words)):
            ids = torch.tensor([[*prompt.token_ids, token]])
            hidden = given.model(input_ids=ids, output_hidden_states=True).hidden_states
            for layer, own in states.items():
                own[side].append(hidden[layer][0, -1])
    for place, layer in enumerate((2, 1)):
        positive, negative = (torch.stack(own) for own in states[layer])
        torch.testing.assert_close(found[place], (positive - negative).mean(dim=0))
        norm = torch.cat([positive, negative]).norm(dim=1).mean()
        assert norms[place] == pytest.approx(float(norm), rel=1e-5)


@pytest.mark.parametrize("style", ["bytelevel", "metaspace"])
@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("vocabulary", ["yes/no", "true/false"])
def test_both_answers_have_the_same_surface_form(style: Any, chat: bool, vocabulary: str) -> None:
    tokenizer = tiny.build_tokenizer(style=style)
    builder = PromptBuilder(tokenizer, vocabulary, chat=chat)
    prompt = builder.binary(BinaryExample("What is the capital of France?", True, "Paris"))
    pair = answer_pair(tokenizer, prompt, builder.words)
    positive, negative = tokenizer.convert_ids_to_tokens(list(pair))
    words = builder.words
    assert positive.replace(words.positive, "") == negative.replace(words.negative, "")
    assert words.positive in positive
    assert words.negative in negative


def test_the_best_on_the_development_split_is_chosen(
    given: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steering, "COEFFICIENTS", (0.2, 1.0))
    fitted = STEERING.fit(given)
    judges = some_of_each(given.development, steering.JUDGES, "0/steering")
    layers = [1, 2]  # of three
    examples = some_of_each(given.pairs, steering.CONTRASTS, "0/steering")
    vectors, norms = contrast(given, examples, layers)
    leans = odds_of(given.scores(judges)).median() < 0
    reached = {}
    for size in (0.2, 1.0):
        for layer, direction, norm in zip(layers, vectors, norms, strict=True):
            coefficient = size if leans else -size
            change = SteeringVector(layer, coefficient * norm * direction / direction.norm())
            with change.on(given.model):
                said = odds_of(given.scores(judges))
            reached[layer, coefficient] = balanced_accuracy(said, judges)
    assert len(set(reached.values())) > 1
    best = max(reached, key=lambda key: reached[key])  # the first of equals
    assert (fitted.chosen["layer"], fitted.chosen["coefficient"]) == best
    assert fitted.chosen["balanced accuracy"] == reached[best]
    assert fitted.parameters == given.model.config.hidden_size
    with fitted.on(given.model):
        served = odds_of(given.scores(judges))
    assert balanced_accuracy(served, judges) == reached[best]
    assert hooks(given.model) == 0


def test_it_points_away_from_the_answer_that_the_model_leans_to(
    given: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steering, "COEFFICIENTS", (0.2,))
    builder = given.builder()
    pair = answer_pair(given.session.tokenizer, builder.binary(given.pairs[0]), builder.words)
    for place, points in ((0, -0.2), (1, 0.2)):
        model = tiny.build_model("llama")
        with torch.no_grad():
            head = model.lm_head.weight
            head[list(pair)] = head.mean(dim=0)  # neither says anything
            bias = torch.zeros(len(head))
            bias[pair[place]] = 5.0
        model.lm_head.bias = torch.nn.Parameter(bias)
        assert (
            STEERING.fit(material(model, given.session.tokenizer)).chosen["coefficient"] == points
        )


def test_without_examples_a_sentence(given: Material) -> None:
    with pytest.raises(NasAlignError, match="no example"):
        STEERING.fit(replace(given, pairs=[]))


def test_a_sample_has_both_labels_and_is_by_the_draw(given: Material) -> None:
    found = some_of_each(given.development, 8, "a")
    assert [example.label for example in found].count(True) == 4
    assert len(found) == 8
    assert found == some_of_each(given.development, 8, "a")
    assert found != some_of_each(given.development, 8, "b")
    assert some_of_each(given.development, 1000, "a") == list(given.development)
