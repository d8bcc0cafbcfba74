"""LoRA by PEFT and TRL: what is trained, what is chosen, and that the model is left as it was."""

from __future__ import annotations

import logging
import random
import sys
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

import tiny
from nasalign.data.records import BinaryExample
from nasalign.errors import NasAlignError, OutOfMemoryError, PromptError
from nasalign.inference.scoring import score
from nasalign.models import processes
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder
from nasalign.rivals import lora as room
from nasalign.rivals.lora import LowRankChange, lora, training_samples
from nasalign.rivals.rival import Fitted, Material, balanced_accuracy, log_odds
from nasalign.run import Run
from rivals.material import material as material_with

CITIES = ("Paris", "London", "Berlin", "Rome", "Madrid", "Tokyo")
QUESTIONS = [f"Which city is number {number}?" for number in range(10)]
PAIRS = [  # learnable: the right answers are the first three cities
    BinaryExample(question, label, city)
    for number, question in enumerate(QUESTIONS)
    for label, city in ((True, CITIES[number % 3]), (False, CITIES[3 + number % 3]))
]
SAME = [example for example in PAIRS if example.label]


def material_of(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, **settings: Any
) -> Material:
    made = material_with(model, tokenizer, **settings)
    return replace(made, run=Run(), same=SAME, pairs=PAIRS, development=PAIRS)


def pairs_of(material: Material) -> Sequence[BinaryExample]:
    return material.pairs


def same_of(material: Material) -> Sequence[BinaryExample]:
    return material.same


@pytest.fixture
def material(tokenizer: PreTrainedTokenizerFast) -> Material:
    return material_of(tiny.build_model("llama", layers=2), tokenizer)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One rate, high enough for a tiny model, and small batches, for more steps."""
    monkeypatch.setattr(room, "LEARNING_RATES", (3e-3,))
    lora_training = pytest.importorskip("nasalign.rivals.lora_training", reason="needs TRL")
    monkeypatch.setattr(lora_training, "BATCH_SIZE", 4)


def state(model: PreTrainedModel) -> dict[str, Any]:
    """Everything of a model that a trainer might change."""
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


def weights(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: one.detach().clone() for name, one in model.state_dict().items()}


def unchanged(before: dict[str, Tensor], model: PreTrainedModel) -> bool:
    after = model.state_dict()
    return list(before) == list(after) and all(
        torch.equal(before[name], after[name]) for name in before
    )


def loss(material: Material, examples: Sequence[BinaryExample]) -> float:
    """The loss of the answers' first tokens, plainly."""
    losses = []
    for prompt, answer in training_samples(material, examples):
        logits = material.model(input_ids=torch.tensor([prompt.token_ids])).logits[0, -1]
        losses.append(functional.cross_entropy(logits, torch.tensor(answer)).item())
    return sum(losses) / len(losses)


def accuracy(material: Material, examples: Sequence[BinaryExample]) -> float:
    return balanced_accuracy(log_odds(material.scores(examples)), examples)


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
    before, kept = weights(model), state(model)
    poor, high = accuracy(material, PAIRS), loss(material, PAIRS)
    fitted = lora("lora-pairs", "LoRA", lambda given: [*given.pairs] * 5).fit(material)
    assert unchanged(before, model)
    assert state(model) == kept
    assert all(
        factor.dtype == torch.float32 for both in factors(fitted).values() for factor in both
    )

    with fitted.on(model):
        good, low = accuracy(material, PAIRS), loss(material, PAIRS)
        recorded = score(model, tokenizer, PAIRS)  # the recorder works beside it
        assert recorded.nas.abs().sum() > 0
    assert low < high
    assert good > poor
    assert good == fitted.chosen["development_balanced_accuracy"]
    assert unchanged(before, model)
    assert state(model) == kept
    assert loss(material, PAIRS) == high

    def stop() -> None:
        with fitted.on(model):
            assert state(model) != kept
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert unchanged(before, model)
    assert state(model) == kept


@pytest.mark.usefixtures("quick")
def test_samples_that_are_all_to_be_affirmed(material: Material) -> None:
    high = loss(material, SAME)
    rival = lora("lora-same", "LoRA, same samples", same_of)
    fitted = rival.fit(material)
    assert (rival.name, rival.title, rival.logits) == ("lora-same", "LoRA, same samples", False)
    with fitted.on(material.model):
        assert loss(material, SAME) < high
        assert (log_odds(material.scores(SAME)) > 0).all()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("family", ["llama", "phi3", "mixtral"])
def test_of_all_linear_layers_but_the_output_embedding(
    tokenizer: PreTrainedTokenizerFast, family: str
) -> None:
    material = material_of(tiny.build_model(family, layers=2), tokenizer)
    kept = state(material.model)
    fitted = lora("lora", "LoRA", same_of).fit(material)
    assert state(material.model) == kept
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


@pytest.mark.usefixtures("quick")
def test_the_seed_decides_and_the_global_random_state_does_not(material: Material) -> None:
    rival = lora("lora", "LoRA", pairs_of)
    first = rival.fit(material)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    torch.rand(1)
    second = rival.fit(material)
    torch.set_rng_state(torch.tensor(states[2], dtype=torch.uint8))
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert first.chosen == second.chosen
    ones, twos = factors(first), factors(second)
    assert all(
        torch.equal(a, b) for name in ones for a, b in zip(ones[name], twos[name], strict=True)
    )

    other = rival.fit(material_of(material.model, material.tokenizer, seed=1))
    name = next(iter(ones))
    assert not torch.equal(ones[name][0], factors(other)[name][0])


def slopes(model: torch.nn.Module, loss: Tensor) -> Sequence[Tensor]:
    trained = [one for one in model.parameters() if one.requires_grad]
    return torch.autograd.grad(loss, trained, retain_graph=True)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("style", ["bytelevel", "metaspace"])
def test_the_trainer_feeds_the_prompt_and_the_answer_alone(
    style: Any, chat: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nasalign.rivals import lora_training

    tokenizer = tiny.build_tokenizer(style=style)
    material = material_of(tiny.build_model("llama", layers=1), tokenizer, chat=chat)
    fed: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    class Watched(lora_training.AnswerTrainer):
        def compute_loss(self, model: Any, inputs: dict[str, Tensor], **more: Any) -> Any:
            names = ("input_ids", "labels", "attention_mask")
            assert set(inputs) == set(names)
            for ids, labels, mask in zip(*(inputs[name] for name in names), strict=True):
                length = int(mask.sum())
                assert mask[:length].all()
                assert (labels[length:] == -100).all()
                fed.append((tuple(ids[:length].tolist()), tuple(labels[:length].tolist())))
            loss = super().compute_loss(model, inputs, **more)
            whole = lora_training.SFTTrainer.compute_loss(self, model, inputs, **more)
            torch.testing.assert_close(loss, whole)
            for ours, theirs in zip(slopes(model, loss), slopes(model, whole), strict=True):
                torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)
            return loss

    monkeypatch.setattr(lora_training, "AnswerTrainer", Watched)
    builder = material.builder()
    by_ids = {builder.binary(example).token_ids: example for example in PAIRS}
    lora("lora", "LoRA", pairs_of).fit(material)
    assert len(fed) == 3 * len(PAIRS)
    for epoch in range(3):
        part = fed[epoch * len(PAIRS) : (epoch + 1) * len(PAIRS)]
        assert sorted(ids[:-1] for ids, _ in part) == sorted(by_ids)
    for ids, labels in fed:
        example = by_ids[ids[:-1]]
        assert set(labels[:-1]) == {-100}
        assert labels[-1] == ids[-1]
        # What the model would write, put into words.
        lead = "" if chat else " "
        word = "Yes" if example.label else "No"
        prompt = builder.binary(example)
        whole = tokenizer(prompt.text + lead + word, add_special_tokens=not chat)["input_ids"]
        assert tuple(whole) == ids


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
    monkeypatch.setattr(room, "DEVELOPMENT_EXAMPLES", 7)
    trained: list[tuple[float, int]] = []

    def train(material: Material, samples: Any, rate: float, *rest: Any) -> None:
        epochs, after_epoch, _ = rest
        for epoch in range(1, epochs + 1):
            trained.append((rate, epoch))
            after_epoch(epoch, material.model)

    def judged(odds: Tensor, examples: Sequence[BinaryExample]) -> float:
        asked.append(examples)
        return next(accuracies)

    monkeypatch.setattr(room, "_trainer", lambda: train)
    monkeypatch.setattr(room, "balanced_accuracy", judged)
    fitted = lora("lora", "LoRA", pairs_of).fit(material)
    assert fitted.chosen == {
        "learning_rate": 3e-4,
        "epochs": 2,
        "development_balanced_accuracy": 0.8,
    }
    assert trained == [(rate, epoch) for rate in (1e-4, 3e-4, 1e-3) for epoch in (1, 2, 3)]
    assert all(list(examples) == list(asked[0]) for examples in asked)
    assert len(asked[0]) == 6
    questions = {example.question for example in asked[0]}
    assert [example for example in PAIRS if example.question in questions] == asked[0]


@pytest.mark.usefixtures("quick")
def test_it_is_silent_leaves_no_file_and_says_how_far_it_is(
    material: Material,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from trl.trainer import base_trainer

    telemetry: list[bool] = []
    monkeypatch.setattr(
        base_trainer,
        "send_telemetry",
        lambda *_, **__: telemetry.append(huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY),
    )
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", False)
    temporary, here = tmp_path / "temporary", tmp_path / "here"
    temporary.mkdir()
    here.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.chdir(here)
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
    levels = logging.root.manager.disable, transformers_logging.get_verbosity()
    capfd.readouterr()
    lora("lora", "LoRA", same_of).fit(material)
    assert capfd.readouterr() == ("", "")
    assert (logging.root.manager.disable, transformers_logging.get_verbosity()) == levels
    assert list(temporary.iterdir()) == list(here.iterdir()) == []
    assert stages == [("LoRA", 3 * (len(SAME) + len(PAIRS)))]
    assert sum(told) == stages[0][1]
    assert told[:4] == [4, 4, 2, len(PAIRS)]
    assert telemetry == [True]
    assert huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY is False
    assert "lora" in material.run.facts["timings"]


def test_what_cannot_be_trained_is_said(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NasAlignError, match="no sample to train LoRA on"):
        lora("lora", "LoRA", lambda _: []).fit(material)
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "nasalign.rivals.lora_training", raising=False)
        patch.setitem(sys.modules, "trl", None)
        with pytest.raises(NasAlignError, match=r'pip install "nasalign\[rivals\]"'):
            lora("lora", "LoRA", pairs_of).fit(material)
    quantised = material_of(tiny.build_model("llama", layers=1), material.tokenizer)
    module = quantised.model.get_submodule("model.layers.0.mlp.up_proj")
    module.weight = type("Packed", (torch.nn.Parameter,), {})(module.weight.data)
    with pytest.raises(NasAlignError, match="load the model unquantised"):
        lora("lora", "LoRA", pairs_of).fit(quantised)
    monkeypatch.setattr(processes, "count", lambda: 2)
    with pytest.raises(NasAlignError, match="by a single process"):
        lora("lora", "LoRA", pairs_of).fit(material)


def test_what_is_trained_is_the_same_where_memory_holds_few_samples(
    tokenizer: PreTrainedTokenizerFast, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nasalign.rivals import lora_training

    trained, asked, most = [], lora_training.answer_logits, 100

    def small(model: PreTrainedModel, prompts: Sequence[BinaryPrompt]) -> Tensor:
        if len(prompts) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return asked(model, prompts)

    monkeypatch.setattr(room, "EPOCHS", 1)
    monkeypatch.setattr(lora_training, "answer_logits", small)
    for most in (100, 1):  # noqa: B007  (read by ``small``)
        material = material_of(tiny.build_model("llama", layers=2, dtype=torch.float64), tokenizer)
        trained.append(factors(lora("lora", "LoRA", same_of).fit(material)))
    torch.testing.assert_close(trained[0], trained[1], atol=1e-5, rtol=1e-4)
    most, before = 0, weights(material.model)
    with pytest.raises(OutOfMemoryError, match="while training a LoRA"):
        lora("lora", "LoRA", same_of).fit(material)
    assert unchanged(before, material.model)
