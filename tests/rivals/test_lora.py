"""LoRA by PEFT: what is trained, what is chosen, and that the model is left as it was."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import tiny
from nasalign.data.records import BinaryExample
from nasalign.errors import NasAlignError, OutOfMemoryError, PromptError
from nasalign.inference.scoring import score
from nasalign.models import processes
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder
from nasalign.rivals import lora as room
from nasalign.rivals.lora import LowRankChange, lora, lora_layers, train_epochs, training_samples
from nasalign.rivals.rival import Fitted, Material, balanced_accuracy, odds_of
from nasalign.run import Run
from rivals.material import material as material_with

CITIES = ("Paris", "London", "Berlin", "Rome", "Madrid", "Tokyo")
PAIRS = [  # learnable: the right answers are the first three cities
    BinaryExample(f"Which city is number {number}?", label, city)
    for number in range(10)
    for label, city in ((True, CITIES[number % 3]), (False, CITIES[3 + number % 3]))
]
SAME = [example for example in PAIRS if example.label]
OF_PAIRS = lora("lora-pairs", "LoRA", lambda material: material.pairs)
OF_SAME = lora("lora-same", "LoRA", lambda material: material.same)


def material_of(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, **settings: Any
) -> Material:
    made = material_with(model, tokenizer, **settings)
    session = made.session.with_run(Run())
    return replace(made, session=session, same=SAME, pairs=PAIRS, development=PAIRS)


@pytest.fixture
def material(tokenizer: PreTrainedTokenizerFast) -> Material:
    return material_of(tiny.build_model("llama", layers=2), tokenizer)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One rate, high enough for a tiny model, and small batches, for more steps."""
    monkeypatch.setattr(room, "LEARNING_RATES", (3e-3,))
    monkeypatch.setattr(room, "BATCH_SIZE", 4)


def state(model: PreTrainedModel) -> dict[str, Any]:
    """Everything of a model that training might change."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    return {
        "modules": [(name, type(module)) for name, module in model.named_modules()],
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "hooks": [len(getattr(module, hook)) for module in model.modules() for hook in hooks],
        "training": [module.training for module in model.modules()],
        "parameters": [
            (name, id(one), one.data_ptr(), one.requires_grad, one.grad, one.dtype)
            for name, one in model.named_parameters()
        ],
        "config": model.config.to_dict(),
        "generation": model.generation_config.to_dict(),
    }


def loss(material: Material, examples: Sequence[BinaryExample]) -> Tensor:
    """The mean loss of the answers' first tokens, prompt by prompt."""
    losses = []
    for prompt, answer in training_samples(material, examples):
        logits = material.model(input_ids=torch.tensor([prompt.token_ids])).logits[0, -1]
        losses.append(functional.cross_entropy(logits, torch.tensor(answer)))
    return torch.stack(losses).mean()


def accuracy(material: Material, examples: Sequence[BinaryExample]) -> float:
    return balanced_accuracy(odds_of(material.scores(examples)), examples)


def factors(fitted: Fitted) -> dict[str, tuple[Tensor, Tensor]]:
    """What was trained, found behind ``on``."""
    change = fitted.on.__self__  # type: ignore[attr-defined]
    assert isinstance(change, LowRankChange)
    return change.factors


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pairs_are_learnt_and_the_model_is_left_as_it_was(
    tokenizer: PreTrainedTokenizerFast, dtype: torch.dtype
) -> None:
    material = material_of(tiny.build_model("llama", layers=2, dtype=dtype), tokenizer)
    model = material.model
    before, kept = tiny.state(model), state(model)
    poor, high = accuracy(material, PAIRS), float(loss(material, PAIRS))
    fitted = lora("lora-pairs", "LoRA", lambda given: [*given.pairs] * 5).fit(material)
    assert tiny.same(before, model)
    assert state(model) == kept
    assert {one.dtype for both in factors(fitted).values() for one in both} == {torch.float32}

    with fitted.on(model):
        good, low = accuracy(material, PAIRS), float(loss(material, PAIRS))
        assert score(model, tokenizer, PAIRS).nas.abs().sum() > 0  # the recorder works beside it
    assert low < high
    assert good > poor
    assert good == fitted.chosen["development_balanced_accuracy"]
    assert tiny.same(before, model)
    assert state(model) == kept
    assert float(loss(material, PAIRS)) == high

    with pytest.raises(KeyboardInterrupt), fitted.on(model):
        raise KeyboardInterrupt
    assert tiny.same(before, model)
    assert state(model) == kept


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("family", ["llama", "phi3", "mixtral"])
def test_of_all_linear_layers_but_the_output_embedding(
    tokenizer: PreTrainedTokenizerFast, family: str
) -> None:
    material = material_of(tiny.build_model(family, layers=2), tokenizer)
    kept, high = state(material.model), loss(material, SAME)
    fitted = OF_SAME.fit(material)
    assert state(material.model) == kept
    with fitted.on(material.model):
        assert loss(material, SAME) < high
    linear = {
        name: module
        for name, module in material.model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    }
    assert factors(fitted).keys() == linear.keys()
    assert fitted.parameters == sum(
        16 * (module.in_features + module.out_features) for module in linear.values()
    )


def test_lora_in_joint_weights_of_experts_is_refused() -> None:
    configuration = LoraConfig(target_modules=["q_proj"], target_parameters=["down_proj"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained = get_peft_model(tiny.build_model("mixtral", layers=1), configuration)
    with pytest.raises(NasAlignError, match="joint weights of this model's experts"):
        LowRankChange.of(trained.get_base_model())


def test_the_steps_are_those_of_a_plain_loop(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three epochs of one batch: warm-up from 0, then cosine; clipped; prompt by prompt."""
    monkeypatch.setattr(room, "BATCH_SIZE", len(PAIRS))
    monkeypatch.setattr(room, "GRADIENT_NORM", 0.2)  # low enough to matter
    model = tiny.build_model("llama", layers=2, dtype=torch.float64)
    material = material_of(model, tokenizer)
    with lora_layers(model, 0):
        samples = training_samples(material, PAIRS)
        assert list(train_epochs(material, samples, 1e-3, 3, lambda count: None)) == [1, 2, 3]
        found = LowRankChange.of(model)
    with lora_layers(model, 0):
        trained = [one for one in model.parameters() if one.requires_grad]
        adam = torch.optim.AdamW(trained, weight_decay=0.0)
        for rate in (0.0, 1e-3, 0.5e-3):
            slopes = torch.autograd.grad(loss(material, PAIRS), trained)
            norm = torch.stack([slope.norm() for slope in slopes]).norm()
            assert norm > 0.2
            for one, slope in zip(trained, slopes, strict=True):
                one.grad = slope * 0.2 / norm
            adam.param_groups[0]["lr"] = rate
            adam.step()
        expected = LowRankChange.of(model)
    assert any(up.any() for _, up in expected.factors.values())
    torch.testing.assert_close(found.factors, expected.factors, atol=1e-7, rtol=1e-5)


@pytest.mark.usefixtures("quick")
def test_an_epoch_has_each_sample_once_in_an_order_by_the_seed(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed: list[tuple[int, ...]] = []
    asked = room.answer_logits

    def watched(model: PreTrainedModel, prompts: Sequence[BinaryPrompt]) -> Tensor:
        fed.extend(prompt.token_ids for prompt in prompts)
        return asked(model, prompts)

    monkeypatch.setattr(room, "answer_logits", watched)
    OF_PAIRS.fit(material)
    OF_PAIRS.fit(material)
    prompts = [prompt.token_ids for prompt, _ in training_samples(material, PAIRS)]
    parts = [fed[start : start + len(PAIRS)] for start in range(0, len(fed), len(PAIRS))]
    assert [sorted(part) for part in parts] == [sorted(prompts)] * 6
    assert parts[:3] == parts[3:]
    assert len({tuple(part) for part in parts}) == 3


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("style", ["bytelevel", "metaspace"])
def test_the_answer_is_the_token_that_the_model_would_write(style: Any, chat: bool) -> None:
    tokenizer = tiny.build_tokenizer(style=style)
    material = material_of(tiny.build_model("llama", layers=1), tokenizer, chat=chat)
    for example, (prompt, answer) in zip(PAIRS, training_samples(material, PAIRS), strict=True):
        text = prompt.text + ("" if chat else " ") + ("Yes" if example.label else "No")
        whole = tokenizer(text, add_special_tokens=not chat)["input_ids"]
        assert (*prompt.token_ids, answer) == tuple(whole)


@pytest.mark.usefixtures("quick")
def test_the_seed_decides_and_the_global_random_state_does_not(material: Material) -> None:
    first = OF_PAIRS.fit(material)
    states = random.getstate(), torch.get_rng_state()
    torch.rand(1)
    second = OF_PAIRS.fit(material)
    torch.set_rng_state(states[1])
    assert random.getstate() == states[0]
    assert first.chosen == second.chosen
    torch.testing.assert_close(factors(first), factors(second), atol=0, rtol=0)
    other = factors(OF_PAIRS.fit(material_of(material.model, material.session.tokenizer, seed=1)))
    name = next(iter(other))
    assert not torch.equal(factors(first)[name][0], other[name][0])
    before = torch.get_rng_state()
    OF_PAIRS.fit(material)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_negative_answer_without_a_token_of_its_own_is_refused(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = PromptBuilder.binary

    def split(self: PromptBuilder, example: BinaryExample) -> BinaryPrompt:
        prompt = real(self, example)
        return replace(prompt, answers=replace(prompt.answers, other_target=None))

    monkeypatch.setattr(PromptBuilder, "binary", split)
    assert len(training_samples(material, SAME)) == len(SAME)
    with pytest.raises(PromptError, match="negative answer does not begin with a token"):
        training_samples(material, PAIRS)


def test_the_best_rate_and_epoch_on_whole_development_questions_are_kept(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Sequence[BinaryExample]] = []
    accuracies = iter([0.5, 0.5, 0.6, 0.7, 0.8, 0.7, 0.8, 0.7, 0.6])
    trained: list[tuple[float, int]] = []

    def train(
        material: Material, samples: Any, rate: float, epochs: int, progress: Any
    ) -> Sequence[int]:
        trained.append((rate, epochs))
        return range(1, epochs + 1)

    def judged(odds: Tensor, examples: Sequence[BinaryExample]) -> float:
        asked.append(examples)
        return next(accuracies)

    monkeypatch.setattr(room, "DEVELOPMENT_EXAMPLES", 7)
    monkeypatch.setattr(room, "balanced_accuracy", judged)
    monkeypatch.setattr(room, "train_epochs", train)
    fitted = OF_PAIRS.fit(material)
    assert fitted.chosen == {
        "learning_rate": 3e-4,
        "epochs": 2,
        "development_balanced_accuracy": 0.8,
    }
    assert trained == [(1e-4, 3), (3e-4, 3), (1e-3, 3)]
    assert all(list(examples) == list(asked[0]) for examples in asked)
    assert len(asked[0]) == 6
    questions = {example.question for example in asked[0]}
    assert [example for example in PAIRS if example.question in questions] == asked[0]


@pytest.mark.usefixtures("quick")
def test_it_is_silent_and_says_how_far_it_is(
    material: Material, capfd: pytest.CaptureFixture[str]
) -> None:
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
        OF_SAME.fit(material)
    assert capfd.readouterr() == ("", "")
    assert stages == [("LoRA", 3 * (len(SAME) + len(PAIRS)))]
    assert sum(told) == stages[0][1]
    assert told[:4] == [4, 4, 2, len(PAIRS)]
    assert "lora-same" in material.run.facts["timings"]


def test_what_cannot_be_trained_is_said(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NasAlignError, match="no sample to train LoRA on"):
        lora("lora", "LoRA", lambda _: []).fit(material)
    quantised = material_of(tiny.build_model("llama", layers=1), material.session.tokenizer)
    module = quantised.model.get_submodule("model.layers.0.mlp.up_proj")
    module.weight = type("Packed", (torch.nn.Parameter,), {})(module.weight.data)
    with pytest.raises(NasAlignError, match="load the model unquantised"):
        OF_PAIRS.fit(quantised)
    monkeypatch.setattr(processes, "count", lambda: 2)
    with pytest.raises(NasAlignError, match="by a single process"):
        OF_PAIRS.fit(material)


def test_what_is_trained_is_the_same_where_memory_holds_few_samples(
    tokenizer: PreTrainedTokenizerFast, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, asked, most = [], room.answer_logits, 100

    def small(model: PreTrainedModel, prompts: Sequence[BinaryPrompt]) -> Tensor:
        if len(prompts) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return asked(model, prompts)

    monkeypatch.setattr(room, "EPOCHS", 1)
    monkeypatch.setattr(room, "answer_logits", small)
    for most in (100, 1):  # noqa: B007  (read by ``small``)
        material = material_of(tiny.build_model("llama", layers=2, dtype=torch.float64), tokenizer)
        trained.append(factors(OF_SAME.fit(material)))
    torch.testing.assert_close(trained[0], trained[1], atol=1e-5, rtol=1e-4)
    most, before, kept = 0, tiny.state(material.model), state(material.model)
    with pytest.raises(OutOfMemoryError, match="while training a LoRA"):
        OF_SAME.fit(material)
    assert tiny.same(before, material.model)
    assert state(material.model) == kept
