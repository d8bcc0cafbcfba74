"""Training in the last tokens of prompts: the same as whole prompts, from what is kept of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tiny
from nasalign.errors import PromptError
from nasalign.head_rows.activations import ActivationMemory
from nasalign.inference.forward import answer_logits
from nasalign.inference.generation import TokenIds
from nasalign.io.files import read_json
from nasalign.models.classes import auto_class
from nasalign.nasa_plus.divergence import Divergence, answered
from nasalign.rivals import rate_search
from nasalign.rivals.prompt_ends import PromptEnds, common_end
from nasalign.rivals.tail_lora import TAIL, TailChange, _ends_in, closing_of
from nasalign.run import Run
from rivals.material import CITY_EXAMPLES, facts, hooks, learnable, material
from rivals.test_lora import filled
from tiny_types import tiny_config


def prompts_of(given):
    return [given.builder().binary(one) for one in given.pairs]


def test_the_common_end() -> None:
    prompts = [TokenIds((1, 2, 3, 4)), TokenIds((9, 3, 4)), TokenIds((5, 6, 7, 3, 4))]
    assert common_end(prompts) == (3, 4)
    assert common_end([TokenIds((1, 2)), TokenIds((2, 1))]) == ()
    assert common_end([TokenIds((1, 2)), TokenIds((2,))]) == (2,)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3", "gpt_neox", "mistral"])
def test_logits_and_gradients_are_those_of_whole_prompts(family: str, tokenizer) -> None:
    given = material(tiny.build_model(family, layers=2, dtype=torch.float64), tokenizer)
    model, prompts = given.model, prompts_of(given)
    end = closing_of(given, prompts)
    ends = PromptEnds(model, prompts, [len(end)] * len(prompts))
    assert ends.exact
    change = filled(TailChange(model, 0, end, ends))
    weights = list(change.parameters())
    batch = prompts[:5]
    assert len({len(prompt.token_ids) for prompt in batch}) > 1  # so that some are padded
    untouched = answer_logits(model, batch)
    with change.on(model):
        whole = answer_logits(model, batch)
        slopes = torch.autograd.grad(whole.logsumexp(-1).sum(), weights)
        alone = change.logits(model, batch)
        others = torch.autograd.grad(alone.logsumexp(-1).sum(), weights)
    assert (whole - untouched).abs().max() > 1e-3
    torch.testing.assert_close(alone, whole, rtol=1e-9, atol=1e-9)
    for one, other in zip(slopes, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)
    assert any(one.any() for one in slopes)
    assert not hooks(model)


def test_the_divergence_is_that_of_whole_prompts(tokenizer) -> None:
    given = material(tiny.build_model("llama", layers=2, dtype=torch.float64), tokenizer)
    model, builder = given.model, given.builder()
    said = ("Oslo", "It is Paris of course", "No one knows that")
    asked = [replace(one, prediction=text) for one, text in zip(given.asked[:3], said, strict=True)]
    answers = answered(builder, asked)
    end = closing_of(given, prompts_of(given))
    assert all(_ends_in(one, end) for one in answers)
    assert not _ends_in(answers[0], (*end[:-1], end[-1] + 1))
    assert len({one.own for one in answers}) > 1
    ends = PromptEnds(model, answers, [len(end) + one.own - 1 for one in answers])
    assert ends.exact

    def passes(places, last):
        return ends.logits([answers[place] for place in places], last)

    def by_whole_prompts(places, last):  # a row of several prompts activates it at the last end
        return answer_logits(model, [answers[place] for place in places], last=last)

    memory = ActivationMemory(None)
    whole = Divergence(model, answers, 0, None, memory, by_whole_prompts)
    alone = Divergence(model, answers, 0, None, memory, passes)
    change = filled(TailChange(model, 0, end, ends))
    with change.on(model):
        expected = whole.of([0, 1, 2])
        torch.testing.assert_close(alone.of([0, 1, 2]), expected, rtol=1e-8, atol=1e-10)
        assert expected > 1e-4
    torch.testing.assert_close(alone.of([0, 1, 2]), torch.zeros((), dtype=torch.float64))


@pytest.fixture
def whatever_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a search return what it found even where that is no better."""
    monkeypatch.setattr(rate_search, "check_better", lambda *_: None)


@pytest.mark.usefixtures("whatever_is_found")
def test_free_answers_stay_nearer_to_what_they_were(tokenizer) -> None:
    moved = []
    for weight in (0.0, 3.0):
        given = learnable(tiny.build_model("llama", layers=2), tokenizer, kl_weight=weight)
        free = [TokenIds(given.builder().parametric(one.question)) for one in given.asked]
        before = answer_logits(given.model, free).log_softmax(-1)
        with TAIL.fit(given).on(given.model), torch.no_grad():
            after = answer_logits(given.model, free).log_softmax(-1)
        moved.append(float((before.exp() * (before - after)).sum(-1).mean()))
    assert moved[1] < moved[0] / 2


def test_where_the_passes_are_not_exact_whole_prompts_run(tokenizer) -> None:
    config = tiny_config("qwen3_next")  # its recurrent layers keep no keys of single tokens
    torch.manual_seed(0)
    model = auto_class(config).from_config(config, dtype=torch.float32).eval()
    given = material(model, tokenizer)
    prompts = prompts_of(given)
    ends = PromptEnds(model, prompts, [3] * len(prompts))
    assert not ends.exact
    with torch.no_grad():
        assert torch.equal(ends.logits(prompts[:3]), answer_logits(model, prompts[:3]))


def test_the_end_is_that_of_every_prompt_and_holds_no_question_mark(tokenizer) -> None:
    given = material(tiny.build_model("llama", layers=1), tokenizer)
    prompts = prompts_of(given)
    assert all(prompt.text.rstrip().count("?") for prompt in prompts)
    end = closing_of(given, prompts)
    text = tokenizer.decode(end)
    assert "Answer:" in text
    assert "?" not in text
    free = given.builder().parametric(facts("development", 1)[0])
    assert tuple(free[-len(end) :]) == end  # as docs/compare.md says
    settings = given.session.with_settings(template="{question} {answer}", chat=False)
    open_ended = replace(given, session=settings)
    with pytest.raises(PromptError, match="end in no tokens of their own"):
        closing_of(open_ended, [TokenIds((1, 2)), TokenIds((2, 1))])


@pytest.mark.usefixtures("whatever_is_found")
def test_it_learns_as_a_row_of_the_comparison(tokenizer, tmp_path: Path) -> None:
    given = learnable(tiny.build_model("llama", layers=2), tokenizer)
    given = replace(given, session=given.session.with_run(Run(tmp_path)))
    fitted = TAIL.fit(given)
    config = read_json(tmp_path / "adapter" / "adapter_config.json")
    assert tokenizer.decode(config["alora_invocation_tokens"]).strip().startswith("Answer:")
    before = given.scores(CITY_EXAMPLES).p_positive
    with fitted.on(given.model):
        assert (given.scores(CITY_EXAMPLES).p_positive != before).any()
    assert not hooks(given.model)
    stages = given.run.facts["timings"]
    assert list(stages) == ["alora-tail/beginnings", "alora-tail"]
