"""Masking, the lens and the criteria of UniBias, each against a literal computation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import tiny
from nasalign.errors import ModelError, NasAlignError
from nasalign.rivals import unibias
from nasalign.rivals.masking import masked, projections
from nasalign.rivals.observed import answer_pair, last_inputs, some_of_each
from nasalign.rivals.rival import Material, balanced_accuracy, odds_of
from nasalign.rivals.unibias import UNIBIAS, Components, components
from rivals.material import hooks, logits, material, same_in_a_batch

Tiny = tuple[PreTrainedModel, PreTrainedTokenizerFast]


@pytest.fixture
def given(llama: Tiny) -> Material:
    return material(*llama)


@torch.no_grad()
def test_masking_is_to_set_columns_of_the_weights_to_zero(family: str) -> None:
    if family in tiny.MIXTURES:
        pytest.skip("a mixture of experts has no such columns")
    model, copy = tiny.build_model(family), tiny.build_model(family)
    attention, down = projections(model)[1]
    columns = {attention: range(16, 32), down: [3, 50]}
    for name, own in columns.items():
        copy.get_submodule(name).weight[:, list(own)] = 0.0
    before = logits(model)
    with masked(model, columns):
        torch.testing.assert_close(logits(model), logits(copy))
    assert not torch.allclose(logits(copy), before, atol=1e-3)
    assert logits(model).equal(before)
    assert hooks(model) == 0


def test_afterwards_the_model_is_as_before_to_the_bit_also_after_an_error(llama: Tiny) -> None:
    model, _ = llama
    before = logits(model)
    columns = {name: [0] for pair in projections(model) for name in pair}
    with pytest.raises(AttributeError), masked(model, {**columns, "model.nothing": [1]}):
        pass
    assert hooks(model) == 0
    assert logits(model).equal(before)


def test_in_a_batch_with_a_shared_prefix_it_does_what_it_does_to_a_prompt_alone(
    given: Material,
) -> None:
    with masked(given.model, {projections(given.model)[0][0]: range(16)}):
        same_in_a_batch(given)


@pytest.mark.parametrize("family", tiny.MIXTURES)
def test_an_architecture_that_has_no_such_modules_is_refused_in_a_sentence(family: str) -> None:
    with pytest.raises(
        ModelError, match=r"^Nothing can be masked or edited in \w+ForCausalLM: .*\.$"
    ):
        projections(tiny.build_model(family))


def test_what_enters_a_module_is_that_of_each_prompt_alone(given: Material) -> None:
    prompts = [given.builder().binary(example) for example in given.development[:7]]
    names = [*projections(given.model)[2], "model.layers.1"]
    found = last_inputs(given.model, prompts, names, batch_size=4)
    for name, rows in zip(names, found, strict=True):
        for prompt, row in zip(prompts, rows, strict=True):
            torch.testing.assert_close(row, entering(given.model, name, prompt.token_ids))
    assert hooks(given.model) == 0


def entering(model: PreTrainedModel, name: str, token_ids: tuple[int, ...]) -> Tensor:
    seen: list[Tensor] = []
    hook = model.get_submodule(name).register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0][0, -1])
    )
    logits(model, torch.tensor([token_ids]))
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_neox", "phi3"])
@torch.no_grad()
def test_label_logits_are_those_of_the_logit_lens(
    family: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = tiny.build_model(family)
    given = material(model, tokenizer)
    prompts = [given.builder().binary(example) for example in given.development[:3]]
    names = [name for pair in projections(model) for name in pair]
    states = dict(zip(names, last_inputs(model, prompts, names), strict=True))
    labels = answer_pair(tokenizer, prompts[0], given.builder().words)
    found = components(model, labels, states)
    assert len(found["heads"].columns) == 3 * 4
    assert len(found["vectors"].columns) == 3 * model.config.intermediate_size
    norm = getattr(model.base_model, "norm", None) or model.base_model.final_layer_norm
    gain = norm.weight + 1 if family == "gemma2" else norm.weight
    for kind, places in (("heads", (0, 5, 11)), ("vectors", (0, 100, 200))):
        own = found[kind]
        for place in places:
            name, start, stop = own.columns[place]
            assert name in names
            part = states[name][:, start:stop] @ model.get_submodule(name).weight[:, start:stop].T
            expected = (part * gain) @ model.get_output_embeddings().weight[list(labels)].T
            torch.testing.assert_close(own.logits[place], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("favoured", [1.0, -1.0])
@pytest.mark.parametrize("bias", [0.0, 0.3])
@pytest.mark.parametrize("variation", [0.3, 1.0])
def test_the_criteria_are_met_literally(favoured: float, bias: float, variation: float) -> None:
    generator = torch.Generator().manual_seed(3)
    middle = torch.randn(60, 1, 2, generator=generator)
    values = middle + 0.4 * torch.randn(60, 9, 2, generator=generator)
    found = Components([("module", place, place + 1) for place in range(60)], values)
    expected = []
    for place in range(60):
        pairs = values[place].tolist()
        sizes = [abs(a) + abs(b) for a, b in pairs]
        leads = [favoured * (a - b) for a, b in pairs]
        mean = sum(leads) / 9
        deviation = (sum((lead - mean) ** 2 for lead in leads) / 8) ** 0.5
        share = sum(lead / size for lead, size in zip(leads, sizes, strict=True)) / 9
        if share > bias and mean > 0 and deviation / mean < variation:
            expected.append((sum(sizes), place))
    expected = [place for _, place in sorted(expected, reverse=True)]
    assert expected
    assert found.biased(favoured, bias, variation, 60) == expected
    assert found.biased(favoured, bias, variation, 3) == expected[:3]


def test_columns_are_gathered_by_module() -> None:
    found = Components([("a", 0, 2), ("a", 2, 4), ("b", 0, 2)], torch.zeros(3, 1, 2))
    assert found.of([2, 0, 1]) == {"b": [0, 1], "a": [0, 1, 2, 3]}


def test_what_is_served_is_less_biased_on_the_support_set(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    given = leaning(tokenizer)
    support = some_of_each(given.development, unibias.SUPPORT, "0/unibias")
    before = given.scores(support)
    fitted = UNIBIAS.fit(given)
    assert hooks(given.model) == 0
    assert given.scores(support).p_positive.equal(before.p_positive)
    with fitted.on(given.model):
        after = given.scores(support)
    imbalance = [abs(float(odds_of(one).sigmoid().mean()) - 0.5) for one in (before, after)]
    assert imbalance[1] < imbalance[0] - 0.05
    mass = [float((one.p_positive + one.p_negative).mean()) for one in (before, after)]
    assert mass[1] >= 0.9 * mass[0]
    assert fitted.parameters == fitted.chosen["heads"] + fitted.chosen["vectors"] > 0
    assert fitted.chosen["balanced accuracy"] == balanced_accuracy(odds_of(after), support)


def test_the_answer_words_are_not_taken_away_for_balance(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = leaning(tokenizer)
    monkeypatch.setattr(unibias, "KEPT_MASS", 1e9)
    fitted = UNIBIAS.fit(given)
    assert (fitted.chosen["heads"], fitted.chosen["vectors"], fitted.parameters) == (0, 0, 0)
    before = logits(given.model)
    with fitted.on(given.model):
        assert logits(given.model).equal(before)


def test_without_examples_a_sentence(given: Material) -> None:
    with pytest.raises(NasAlignError, match="no example"):
        UNIBIAS.fit(replace(given, development=[]))


@torch.no_grad()
def leaning(tokenizer: PreTrainedTokenizerFast) -> Material:
    """A model that says Yes or No to everything, and one of whose heads says No to everything."""
    model = tiny.build_model("llama")
    given = material(model, tokenizer)
    builder = given.builder()
    prompts = [builder.binary(example) for example in given.development]
    pair = answer_pair(tokenizer, prompts[0], builder.words)
    bias = torch.zeros(len(model.lm_head.weight))
    bias[list(pair)] = 10.0
    model.lm_head.bias = torch.nn.Parameter(bias, requires_grad=False)
    projection = model.model.layers[2].self_attn.o_proj
    (states,) = last_inputs(model, prompts, ["model.layers.2.self_attn.o_proj"])
    values = states[:, : projection.in_features // 4].mean(dim=0)  # of the first head
    no = model.lm_head.weight[pair[1]] - model.lm_head.weight[pair[0]]
    projection.weight[:, : len(values)] = 8.0 * torch.outer(no, values) / values.norm() ** 2
    return given
