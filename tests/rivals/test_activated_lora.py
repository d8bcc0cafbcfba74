"""Activated LoRA: it is PEFT's, and where it is not activated the model says what it said."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel

import tiny
from nasalign.adapters.activated import invocation_of, write_activated
from nasalign.data.records import BinaryExample
from nasalign.errors import ModelError
from nasalign.inference.generation import TokenIds, generate
from nasalign.models.classes import auto_class
from nasalign.models.geometry import HeadGeometry
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder
from nasalign.rivals.activated_lora import (
    ALORA,
    ActivatedChange,
    after,
)
from nasalign.rivals.lora import attention_linear
from nasalign.rivals.rival import Material
from nasalign.run import Run
from rivals.material import (
    CITY_EXAMPLES,
    facts,
    hooks,
    learnable,
    logits,
    material,
    same_in_a_batch,
)
from rivals.test_lora import filled
from tiny_types import tiny_config

INVOCATION = (7, 8, 9)
ROWS = torch.tensor(
    [
        [5, 7, 8, 9, 11, 12, 13, 14],  # it acts from the second token on
        [7, 8, 9, 6, 7, 8, 9, 10],  # from the last occurrence on
        [5, 7, 8, 6, 9, 11, 7, 8],  # nowhere
    ]
)


def activated(model, invocation=INVOCATION) -> ActivatedChange:
    return filled(ActivatedChange(model, attention_linear(model), 0, invocation))


def invocation(given: Material, prompts: Sequence[BinaryPrompt]) -> tuple[int, ...]:
    return invocation_of(given.builder(), prompts, given.asked[0].question)


def test_where_it_acts() -> None:
    acting = after(ROWS, torch.tensor(INVOCATION)).int().tolist()
    assert acting == [[0, 1, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1, 1, 1], [0] * 8]
    assert not after(ROWS[:, :2], torch.tensor(INVOCATION)).any()


@pytest.mark.parametrize("family", ["llama", "phi3", "qwen2", "gpt_neox"])
def test_its_adapter_does_in_peft_what_it_does_here(family: str, tmp_path: Path) -> None:
    model = tiny.build_model(family, layers=2)
    change, before = activated(model), logits(model, ROWS)
    with change.on(model):
        ours = logits(model, ROWS)
    assert not hooks(model)
    assert torch.equal(ours[2], before[2])  # to the bit
    assert torch.equal(ours[0, 0], before[0, 0])
    assert torch.equal(ours[1, :4], before[1, :4])
    assert (ours[0, 1:] - before[0, 1:]).abs().amax(dim=-1).min() > 0.01
    write_activated(tmp_path / "adapter", change.factors, INVOCATION, "org/base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = PeftModel.from_pretrained(model, str(tmp_path / "adapter"))
    with torch.no_grad():
        theirs = wrapped(input_ids=ROWS, use_cache=False).logits
    torch.testing.assert_close(ours, theirs)


def test_it_changes_the_linear_modules_of_attention_alone() -> None:
    model = tiny.build_model("llama", layers=2)
    inside = tuple(HeadGeometry.of(model).modules.values())
    names = attention_linear(model)
    assert len(names) == 8
    assert all(name.startswith(inside) for name in names)


@pytest.mark.parametrize("family", ["llama", "qwen2_5_vl"])
def test_a_shared_prefix_changes_nothing(family: str, tokenizer) -> None:
    if family == "llama":
        model = tiny.build_model(family, layers=2)
    else:  # a multimodal type embeds the tokens outside of its text model
        config = tiny_config(family)
        torch.manual_seed(0)
        model = auto_class(config).from_config(config, dtype=torch.float32).eval()
    given = material(model, tokenizer)
    prompts = [given.builder().binary(one) for one in given.development]
    change = activated(given.model, invocation(given, prompts))
    with change.on(given.model):
        same_in_a_batch(given)


def test_free_answers_are_those_of_the_untouched_model(tokenizer) -> None:
    given = material(tiny.build_model("llama", layers=2), tokenizer)
    builder = given.builder()
    asked = [TokenIds(builder.parametric(one)) for one in facts("development", 5)]
    verdicts = [TokenIds(builder.binary(one).token_ids) for one in given.development[:5]]
    change = activated(given.model, invocation(given, [builder.binary(x) for x in given.pairs]))
    free, said = (generate(given.model, tokenizer, x, 6, until=None) for x in (asked, verdicts))
    with change.on(given.model):
        again = generate(given.model, tokenizer, asked, 6, until=None)
        other = generate(given.model, tokenizer, verdicts, 6, until=None)
        alone = [generate(given.model, tokenizer, [x], 6, until=None) for x in verdicts]
        with pytest.raises(ModelError, match="with and without the tokens"):
            generate(given.model, tokenizer, [*asked[:1], *verdicts[:1]], 6, until=None)
    assert (again.texts, again.entropies) == (free.texts, free.entropies)
    assert other.texts != said.texts
    assert other.texts == [one.texts[0] for one in alone]  # it still acts on what is generated


def test_it_is_activated_by_the_instruction(tokenizer) -> None:
    given = material(tiny.build_model("llama", layers=1), tokenizer)
    builder = given.builder()
    examples = [*given.pairs, BinaryExample("Is Oslo in Norway?", True, context="Oslo is there.")]
    prompts = [builder.binary(one) for one in examples]
    tokens = invocation(given, prompts)
    text = tokenizer.decode(tokens)
    assert "MUST answer Yes or No." in text
    assert "Question" not in text
    assert isinstance(builder, PromptBuilder)
    for prompt in prompts:
        acting = after(torch.tensor([prompt.token_ids]), torch.tensor(tokens))
        assert acting[0, prompt.first_row]
    for fact in facts("development", 3):
        assert not after(torch.tensor([builder.parametric(fact)]), torch.tensor(tokens)).any()


def test_it_learns_as_a_row_of_the_comparison(tokenizer, tmp_path: Path) -> None:
    given = learnable(tiny.build_model("llama", layers=2), tokenizer)
    given = replace(given, session=given.session.with_run(Run(tmp_path)))
    fitted = ALORA.fit(given)
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
    assert fitted.chosen["activated by"].endswith("Yes or No.")
    before = given.scores(CITY_EXAMPLES).p_positive
    with fitted.on(given.model):
        assert (given.scores(CITY_EXAMPLES).p_positive != before).any()
    assert not hooks(given.model)


def test_modules_whose_tokens_are_not_in_the_order_of_the_prompt_are_refused() -> None:
    change = activated(tiny.build_model("llama", layers=1))
    change.acting = torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ModelError, match="order of the prompt"):
        change.changed(torch.zeros(6, 4), torch.zeros(6, 4))
