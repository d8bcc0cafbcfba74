"""The one search of trained rivals: its steps, its samples, what it chooses, what it leaves."""

from __future__ import annotations

import copy
import math
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import tiny
from nasa_plus.test_joint import FREE, literal_divergence
from nasalign.data.records import BinaryExample, Question, load_facts, split_of
from nasalign.errors import NasAlignError, NothingToFixError, OutOfMemoryError, PromptError
from nasalign.head_rows import change as change_module
from nasalign.head_rows.activations import ActivationMemory
from nasalign.head_rows.change import Change
from nasalign.head_rows.low_rank import LowRankChange
from nasalign.inference.scoring import Scores, score
from nasalign.nasa_plus.divergence import Divergence
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder
from nasalign.rivals import change_training as training
from nasalign.rivals import head_edits, linear_probe
from nasalign.rivals import rate_search as room
from nasalign.rivals.change_training import SamplePair, epochs_of, train, training_samples
from nasalign.rivals.head_edits import JOLA, LOFIT, GatedEdits
from nasalign.rivals.linear_probe import PROBE
from nasalign.rivals.lora import LORA_ALL, LORA_ATTENTION, LORA_QK, all_linear
from nasalign.rivals.rate_search import (
    Quality,
    RateSearch,
    judges_of,
    training_pairs,
)
from nasalign.rivals.rival import Fitted, Material, Rival, odds_of
from rivals.material import CITY_EXAMPLES, CITY_PAIRS, learnable, state
from rivals.material import material as given

TRAINED = (LORA_ALL, LORA_ATTENTION, LORA_QK, LOFIT, JOLA)


@pytest.fixture
def cities(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pairs of cities, many times, in place of those of nasa+; rates for a tiny model."""
    for module in (room, linear_probe):
        monkeypatch.setattr(module, "training_pairs", lambda material: CITY_PAIRS * 2)
    monkeypatch.setattr(room, "RATES", (3e-2, 1e-2))
    monkeypatch.setattr(head_edits, "SELECTION_RATE", 3e-2)
    monkeypatch.setattr(head_edits, "ONE_OF", 2)


@pytest.fixture
def material(tokenizer: PreTrainedTokenizerFast) -> Material:
    return learnable(tiny.build_model("llama", layers=2), tokenizer)


def low_rank(material: Material) -> LowRankChange:
    return LowRankChange(material.model, all_linear(material.model), material.settings.seed)


def sample_pairs(material: Material) -> list[SamplePair]:
    samples = training_samples(material, CITY_EXAMPLES)
    return list(zip(samples[::2], samples[1::2], strict=True))


def trained(
    material: Material,
    change: Change,
    rate: float,
    epochs: int = 2,
    free: Divergence | None = None,
) -> list[float]:
    """The losses of the steps of training a change."""
    steps = [step for epoch in epochs_of(sample_pairs(material), 0) for step in epoch]
    steps = steps[: len(steps) // 2] * epochs
    return list(train(material, change, steps, rate, lambda _: None, free))


def loss(material: Material, examples: Sequence[BinaryExample] = CITY_EXAMPLES) -> Tensor:
    """The mean loss of the verdicts' first tokens, prompt by prompt."""
    losses = []
    for prompt, answer in training_samples(material, examples):
        logits = material.model(input_ids=torch.tensor([prompt.token_ids])).logits[0, -1]
        losses.append(functional.cross_entropy(logits, torch.tensor(answer)))
    return torch.stack(losses).mean()


def quality_of(material: Material) -> Quality:
    return Quality.of(odds_of(material.scores(CITY_EXAMPLES)), CITY_EXAMPLES)


@pytest.mark.usefixtures("cities")
@pytest.mark.parametrize("rival", TRAINED, ids=lambda rival: rival.name)
def test_pairs_are_learnt_and_the_model_is_left_as_it_was(rival: Rival, material: Material) -> None:
    model = material.model
    before, kept = tiny.state(model), state(model)
    untouched, high = quality_of(material), float(loss(material))
    fitted = rival.fit(material)
    assert tiny.same(before, model)
    assert state(model) == kept
    with fitted.on(model):
        quality, low = quality_of(material), float(loss(material))
        assert score(model, material.session.tokenizer, CITY_EXAMPLES).nas.abs().sum() > 0
    assert low < high
    assert quality > untouched
    assert fitted.chosen.items() >= quality.as_chosen().items()
    assert fitted.chosen["learning rate"] in room.RATES
    assert fitted.chosen["pairs"] == 20
    assert fitted.chosen["steps"] == 1 + 10  # a rate for an eighth, the best for two epochs
    assert 0 < fitted.parameters < sum(one.numel() for one in model.parameters())
    with pytest.raises(KeyboardInterrupt), fitted.on(model):
        raise KeyboardInterrupt
    assert tiny.same(before, model)
    assert state(model) == kept
    assert float(loss(material)) == high


@pytest.mark.usefixtures("cities")
@pytest.mark.parametrize("rival", [*TRAINED, PROBE], ids=lambda rival: rival.name)
def test_a_rival_that_finds_nothing_says_so_in_a_sentence(
    rival: Rival, material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is found is no better than the untouched model."""
    monkeypatch.setattr(room.Quality, "of", lambda odds, examples: Quality(0.5, 0.5))
    before, kept = tiny.state(material.model), state(material.model)
    with pytest.raises(NothingToFixError) as raised:
        rival.fit(material)
    says = str(raised.value)
    assert "finds nothing that is better than the untouched model" in says
    assert says.count(".") - says.count("0.") - says.count("et al.") == 1
    assert tiny.same(before, material.model)
    assert state(material.model) == kept


@pytest.mark.parametrize("held", [False, True])
def test_the_steps_are_those_of_a_plain_loop(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch, held: bool
) -> None:
    """Six epochs of one batch: warm-up from 0, then cosine; clipped; prompt by prompt."""
    monkeypatch.setattr(training, "PAIRS_A_STEP", len(CITY_PAIRS))
    monkeypatch.setattr(training, "GRADIENT_NORM", 0.2)  # low enough to matter
    untouched = tiny.build_model("llama", layers=2, dtype=torch.float64)
    material = learnable(copy.deepcopy(untouched), tokenizer, kl_weight=3.0)
    found, expected = low_rank(material), low_rank(material)
    free = Divergence(material.model, FREE, 0, None, ActivationMemory()) if held else None
    told = trained(material, found, 1e-3, 6, free)
    noise = torch.Generator().manual_seed(material.settings.seed)
    weights = list(expected.parameters())
    adam = torch.optim.AdamW(weights, betas=(0.9, 0.95), weight_decay=0.0)
    losses = []
    cosine = [(1 + torch.tensor(torch.pi * part / 5).cos().item()) / 2 for part in range(5)]
    for rate in (0.0, *cosine):  # of six steps one warms up
        with expected.on(material.model):
            losses.append(loss(material))
            whole = losses[-1]
            if held:
                places = torch.randperm(len(FREE), generator=noise)[:2].tolist()
                answers = [FREE[place] for place in places]
                kept = literal_divergence(untouched, material.model, answers)
                whole = whole + 3.0 * kept
            slopes = torch.autograd.grad(whole, weights)
        norm = torch.stack([slope.norm() for slope in slopes]).norm()
        assert norm > 0.2
        for one, slope in zip(weights, slopes, strict=True):
            one.grad = slope * 0.2 / norm
        adam.param_groups[0]["lr"] = 1e-3 * rate
        adam.step()
    assert told == pytest.approx([float(one.detach()) for one in losses], rel=1e-6)
    assert any(up.any() for up in expected.up)
    for one, other in zip(found.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-5)


def test_the_penalty_of_a_change_is_part_of_its_loss(material: Material) -> None:
    """With nothing to learn from the samples, the gates close: their penalty alone moves them."""

    class Gates(GatedEdits):
        def edited(self, layer: int, outputs: Tensor) -> Tensor:
            return outputs + 0 * self.scales[str(layer)]

    gates = Gates(material.model)
    trained(material, gates, 1e-2)
    assert all((one < -1e-3).all() for one in gates.log_gates.values())


def watch(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[int, ...]]]:
    """The prompts of each training step, as they come."""
    fed: list[list[tuple[int, ...]]] = []
    asked = change_module.packed_logits

    def watched(model: PreTrainedModel, prompts: Sequence[BinaryPrompt]) -> Tensor:
        fed.append([prompt.token_ids for prompt in prompts])
        return asked(model, prompts)

    monkeypatch.setattr(change_module, "packed_logits", watched)
    return fed


def test_every_rival_learns_the_same_samples_in_the_same_order(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "training_pairs", lambda _: CITY_PAIRS)
    monkeypatch.setattr(room, "check_better", lambda *_: None)
    fed, seen = watch(monkeypatch), {}
    for rival in TRAINED:
        rival.fit(material)
        seen[rival.name] = list(fed)
        fed.clear()
    pairs = {frozenset(prompt.token_ids for prompt, _ in pair) for pair in sample_pairs(material)}
    steps = seen["lora-all"]
    assert len(steps) == 2 * 1 + 5  # two rates for a step of six, the best for the rest
    assert steps[0] == steps[1]
    whole = steps[1:]
    for epoch in (whole[:3], whole[3:]):
        shown = [prompt for step in epoch for prompt in step]
        own = [frozenset(shown[place : place + 2]) for place in range(0, len(shown), 2)]
        assert len(own) == len(pairs)
        assert set(own) == pairs
        assert sorted(len(step) for step in epoch) == [4, 8, 8]
    assert whole[:3] != whole[3:]
    assert seen["lora-qk"] == seen["jola"] == steps
    assert seen["lofit"] == [steps[0], *steps]  # after half an epoch by which heads are chosen


def test_the_pairs_of_a_step_are_of_like_length(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    material = given(tiny.build_model("llama", layers=1), tokenizer)
    samples = [
        training_samples(material, side) for side in zip(*training_pairs(material), strict=True)
    ]
    pairs = list(zip(*samples, strict=True))
    for epoch in epochs_of(pairs, 0):
        spread = [
            max(lengths) - min(lengths)
            for step in epoch
            for lengths in [[len(pair[0][0].token_ids) for pair in step]]
        ]
        lengths = [len(pair[0][0].token_ids) for pair in pairs]
        assert sum(spread) / len(spread) < (max(lengths) - min(lengths)) / 4
        assert sorted(len(step) for step in epoch)[-1] == training.PAIRS_A_STEP


def test_the_samples_are_those_of_nasa_plus_of_other_subjects_than_the_test(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    material = given(tiny.build_model("llama", layers=1), tokenizer)
    pairs, judges = training_pairs(material), judges_of(material)
    assert len(pairs) == room.MOST_PAIRS == 224
    assert all(right.label and not wrong.label for right, wrong in pairs)
    assert {pair[0].context is None for pair in pairs} == {True, False}
    assert {pair[0].answer is None for pair in pairs} == {True, False}
    assert training_pairs(material) == pairs
    others = replace(material, session=material.session.with_settings(seed=1))
    assert training_pairs(others) != pairs
    tested = load_facts("test")
    shown = " ".join(example.shown for pair in pairs for example in pair)
    assert not any(one.question in shown for one in tested)
    assert {split_of(fact.subject) for fact in about(judges)} == {"development"}
    monkeypatch.setattr(room, "MOST_PAIRS", 10)
    few = training_pairs(material)
    assert len(few) == 10
    assert [pair for pair in pairs if pair in few]


def about(examples: Sequence[BinaryExample]) -> list[Question]:
    questions = {example.question for example in examples}
    return [fact for fact in load_facts() if fact.question in questions]


@pytest.mark.parametrize("rival", [*TRAINED, PROBE], ids=lambda rival: rival.name)
def test_only_the_development_split_is_scored(
    rival: Rival, material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[BinaryExample] = []
    real = Material.scores

    def scores(self: Material, examples: Sequence[BinaryExample]) -> Scores:
        asked.extend(examples)
        return real(self, examples)

    monkeypatch.setattr(Material, "scores", scores)
    for module in (room, linear_probe):
        monkeypatch.setattr(module, "training_pairs", lambda _: CITY_PAIRS)
        monkeypatch.setattr(module, "check_better", lambda *_: None)
    rival.fit(material)
    judges = judges_of(material)
    assert judges
    assert all(example in judges for example in asked)
    assert all(example in material.development for example in judges)


def test_judges_are_whole_questions_drawn_by_the_seed(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert judges_of(material) == CITY_EXAMPLES
    monkeypatch.setattr(room, "JUDGES", 7)
    judges = judges_of(material)
    assert len(judges) == 6
    questions = {example.question for example in judges}
    assert [example for example in CITY_EXAMPLES if example.question in questions] == judges
    others = replace(material, session=material.session.with_settings(seed=1))
    assert judges_of(others) != judges


def fake_training(
    monkeypatch: pytest.MonkeyPatch,
    losses: Mapping[float, float],
    qualities: Sequence[float],
) -> list[float]:
    """Lets nothing be trained; the qualities are those of the looks at the development split.

    The losses are those of the first step by rate. Returns the rate of each step.
    """
    steps: list[float] = []
    looks = iter(qualities)

    def train(
        material: Material, change: Change, planned: Any, rate: float, progress: Any, free: Any
    ) -> Iterator[float]:
        for _ in planned:
            steps.append(rate)
            for one in change.parameters():
                one.data.fill_(len(steps))  # to be told apart
            yield losses[rate]

    def of(odds: Tensor, examples: Sequence[BinaryExample]) -> Quality:
        return Quality(next(looks), 0.5)

    monkeypatch.setattr(room, "train", train)
    monkeypatch.setattr(room.Quality, "of", of)
    monkeypatch.setattr(room, "training_pairs", lambda _: CITY_PAIRS)
    return steps


@pytest.mark.parametrize(
    ("losses", "qualities", "rate", "epoch"),  # qualities: untouched, after each epoch
    [
        ((0.5, 0.6), [0.5, 0.7, 0.9], 5e-3, 2),
        ((0.5, 0.6), [0.5, 0.7, 0.65], 5e-3, 1),
        ((0.5, 0.5), [0.5, 0.6, 0.6], 5e-3, 1),  # of equals the higher rate, fewer epochs
        ((0.6, 0.5, 0.55), [0.5, 0.4, 0.6], 2e-3, 2),
        ((math.nan, math.inf, 0.6, 0.7), [0.5, 0.4, 0.6], 8e-4, 2),
        ((0.6, math.inf), [0.5, 0.4, 0.6], 5e-3, 2),
    ],
)
def test_the_rate_of_least_loss_goes_on_and_its_best_epoch_is_kept(
    material: Material,
    monkeypatch: pytest.MonkeyPatch,
    losses: Sequence[float],
    qualities: list[float],
    rate: float,
    epoch: int,
) -> None:
    tried = room.RATES[: len(losses)]
    steps = fake_training(monkeypatch, dict(zip(tried, losses, strict=True)), qualities)
    fitted = LORA_ALL.fit(material)
    assert steps == [*tried, *[rate] * 5]
    assert fitted.chosen["steps"] == len(steps)
    assert fitted.chosen["learning rate"] == rate
    assert fitted.chosen["epochs"] == epoch
    assert fitted.chosen["development balanced accuracy"] == max(qualities[1:])
    change = fitted.on.__self__  # type: ignore[attr-defined]
    last = len(tried) + (5 if epoch == 2 else 2)
    assert {float(one.flatten()[0]) for one in change.parameters()} == {float(last)}


def test_the_untouched_model_is_asked_once_for_all_rows(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = [0.5, 0.6, 0.7, 0.4, 0.5]  # untouched, then two epochs of each row
    fake_training(monkeypatch, dict.fromkeys(room.RATES, 0.5), looks)
    assert LORA_ALL.fit(material).chosen["development balanced accuracy"] == 0.7
    with pytest.raises(NothingToFixError, match=r"0\.500 beside 0\.500"):
        LORA_QK.fit(material)


def test_where_every_rate_diverges_nothing_is_found(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_training(monkeypatch, dict.fromkeys(room.RATES, math.nan), [0.5, 0.0, 0.0])
    with pytest.raises(NothingToFixError, match="finds nothing that is better"):
        LORA_ALL.fit(material)


def test_a_rate_that_diverges_is_the_worst() -> None:
    odds = torch.ones(len(CITY_EXAMPLES), dtype=torch.float64)
    odds[3] = torch.nan
    assert Quality.of(odds, CITY_EXAMPLES) == (0.0, 0.0)
    right = torch.tensor([1.0 if one.label else -1.0 for one in CITY_EXAMPLES]).double()
    assert Quality.of(right, CITY_EXAMPLES) == (1.0, 1.0)
    assert Quality.of(right - 3, CITY_EXAMPLES) == (0.5, 1.0)
    assert Quality.of(right[:1], CITY_EXAMPLES[:1]) == (1.0, 0.5)


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("style", ["bytelevel", "metaspace"])
def test_the_answer_is_the_token_that_the_model_would_write(style: Any, chat: bool) -> None:
    tokenizer = tiny.build_tokenizer(style=style)
    material = learnable(tiny.build_model("llama", layers=1), tokenizer, chat=chat)
    samples = training_samples(material, CITY_EXAMPLES)
    for example, (prompt, answer) in zip(CITY_EXAMPLES, samples, strict=True):
        text = prompt.text + ("" if chat else " ") + ("Yes" if example.label else "No")
        whole = tokenizer(text, add_special_tokens=not chat)["input_ids"]
        assert (*prompt.token_ids, answer) == tuple(whole)


def test_the_global_random_state_neither_decides_nor_moves(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "training_pairs", lambda _: CITY_PAIRS[:4])
    monkeypatch.setattr(room, "check_better", lambda *_: None)
    first = JOLA.fit(material)
    states = random.getstate(), torch.get_rng_state()
    torch.rand(1)
    moved = torch.get_rng_state()
    second = JOLA.fit(material)
    assert torch.equal(torch.get_rng_state(), moved)
    assert random.getstate() == states[0]
    assert first.chosen == second.chosen
    for one, other in zip(weights(first), weights(second), strict=True):
        assert torch.equal(one, other)


def weights(fitted: Fitted) -> list[Tensor]:
    return list(fitted.on.__self__.parameters())  # type: ignore[attr-defined]


def test_a_negative_answer_without_a_token_of_its_own_is_refused(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = PromptBuilder.binary

    def split(self: PromptBuilder, example: BinaryExample) -> BinaryPrompt:
        prompt = real(self, example)
        return replace(prompt, answers=replace(prompt.answers, other_target=None))

    monkeypatch.setattr(PromptBuilder, "binary", split)
    assert len(training_samples(material, CITY_EXAMPLES[::2])) == len(CITY_PAIRS)
    with pytest.raises(PromptError, match="negative answer does not begin with a token"):
        training_samples(material, CITY_EXAMPLES)


def test_it_is_silent_and_says_how_far_it_is(
    material: Material, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(room, "training_pairs", lambda _: CITY_PAIRS)
    monkeypatch.setattr(room, "check_better", lambda *_: None)
    told: list[int] = []
    stages: list[tuple[str, int]] = []

    class Reporter:
        def say(self, text: str) -> None:
            raise AssertionError(text)

        @contextmanager
        def stage(self, title: str, total: int) -> Any:
            stages.append((title, total))
            yield told.append

    material.run.reporter = Reporter()
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LOFIT.fit(material)
    assert capfd.readouterr() == ("", "")
    first = 8  # one of six steps
    assert [total for _, total in stages] == [first, 2 * 20 + first + 3 * 20]
    assert sum(told) == sum(total for _, total in stages)
    assert "lofit" in material.run.facts["timings"]


def test_what_cannot_be_trained_is_said(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "training_pairs", lambda _: [])
    with pytest.raises(NothingToFixError, match="no sample to train LoRA on all linear layers"):
        LORA_ALL.fit(material)
    module = material.model.get_submodule("model.layers.0.mlp.up_proj")
    module.weight = type("Packed", (torch.nn.Parameter,), {})(module.weight.data)
    with pytest.raises(NasAlignError, match="load the model unquantised"):
        RateSearch(material, "any", "Any")


def test_what_is_trained_is_the_same_where_memory_holds_few_samples(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, asked, most = [], change_module.answer_logits, 100

    def small(model: PreTrainedModel, prompts: Sequence[BinaryPrompt]) -> Tensor:
        if len(prompts) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return asked(model, prompts)

    monkeypatch.setattr(change_module, "answer_logits", small)
    for most in (100, 3, 1):  # noqa: B007  (read by ``small``)
        material = learnable(tiny.build_model("llama", layers=2, dtype=torch.float64), tokenizer)
        change = GatedEdits(material.model)
        pairs = sample_pairs(material)[:5]
        list(train(material, change, [pairs[:4], pairs[4:]] * 2, 1e-2, lambda _: None))
        results.append([one.detach() for one in change.parameters()])
    for parts in results[1:]:
        torch.testing.assert_close(results[0], parts, atol=1e-5, rtol=1e-4)
    assert any(one.any() for one in results[0])
    most, before, kept = 0, tiny.state(material.model), state(material.model)
    with pytest.raises(OutOfMemoryError, match="while training a rival"):
        next(train(material, low_rank(material), [pairs], 1e-2, lambda _: None))
    assert tiny.same(before, material.model)
    assert state(material.model) == kept
