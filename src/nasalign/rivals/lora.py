"""LoRA (Hu et al., 2022): low-rank changes of all linear layers, trained by PEFT and TRL."""

import logging
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from huggingface_hub import constants
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from nasalign.data.records import BinaryExample
from nasalign.errors import NasAlignError, NothingToFixError, PromptError
from nasalign.extras import require
from nasalign.inference.batches import check_lengths
from nasalign.models import processes
from nasalign.prompts.builder import BinaryPrompt
from nasalign.rivals.rival import Fitted, Material, Rival, balanced_accuracy, log_odds

LEARNING_RATES = (1e-4, 3e-4, 1e-3)
EPOCHS = 3
MANY = 400
"""From so many samples on two rates and epochs are tried: more steps than all of a smaller set."""
DEVELOPMENT_EXAMPLES = 100
"""Examples at most that rate and number of epochs are chosen by."""


@dataclass(frozen=True, eq=False)
class LowRankChange:
    """What LoRA adds to linear modules: ``scale * up @ down @ x``.

    Attributes:
        factors: by module name, down [r, in] and up [out, r], float32 of a 16-bit model.
        scale: alpha / r.
    """

    factors: dict[str, tuple[Tensor, Tensor]]
    scale: float

    @classmethod
    def of(cls, model: nn.Module) -> "LowRankChange":
        """Copies the change out of a model into which PEFT has put LoRA layers.

        Raises:
            NasAlignError: one of them is beside something else than a linear module.
        """
        factors, scale = {}, 1.0
        for name, module in model.named_modules():
            if isinstance(module, LoraLayer):
                if not isinstance(module.get_base_layer(), nn.Linear):
                    raise NasAlignError(
                        "PEFT puts LoRA into the joint weights of this model's experts, which "
                        "cannot be compared; leave the LoRA rows out."
                    )
                both = module.lora_A["default"].weight, module.lora_B["default"].weight
                factors[name] = both[0].detach().clone(), both[1].detach().clone()
                scale = module.scaling["default"]  # the same of all
        return cls(factors, scale)

    @property
    def parameters(self) -> int:
        """Number of trained numbers."""
        return sum(down.numel() + up.numel() for down, up in self.factors.values())

    @contextmanager
    def on(self, model: PreTrainedModel) -> Iterator[None]:
        """Adds the change to what the modules put out, as the trained model did; then no more.

        No weight is written, so that leaving restores the model to the bit. Of a bfloat16 model
        the change is computed in float32 and only its sum with the module's output is rounded;
        merged into the weights, most of so small a change would be lost to rounding.
        """
        with ExitStack() as hooks:
            for name, (down, up) in self.factors.items():
                hook = model.get_submodule(name).register_forward_hook(self._hook(down, up))
                hooks.callback(hook.remove)
            yield

    def _hook(self, down: Tensor, up: Tensor) -> Callable[..., Tensor]:
        def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            hidden = inputs[0].to(down.dtype)
            a, b = down.to(hidden.device), up.to(hidden.device)
            change = functional.linear(functional.linear(hidden, a), b) * self.scale
            return (output + change).to(output.dtype)

        return add


def lora(name: str, title: str, samples: Callable[[Material], Sequence[BinaryExample]]) -> Rival:
    """Returns the row that trains a LoRA on some of the material.

    The loss is that of the right answer's first token alone, after the very tokens that the model
    is asked with. Learning rate and number of epochs are those of the best balanced accuracy on
    the development split; of equals, the smaller rate and then the fewer epochs.

    Args:
        name: of the row.
        title: of the row.
        samples: picks what it is trained on.
    """

    def fit(material: Material) -> Fitted:
        return _fit(name, title, material, samples(material))

    return Rival(name, title, serving="an adapter, or merged weights", logits=False, fit=fit)


def _fit(name: str, title: str, material: Material, examples: Sequence[BinaryExample]) -> Fitted:
    _check(title, material.model, examples)
    known = training_samples(material, examples)
    judges = _whole_questions(
        material.development, DEVELOPMENT_EXAMPLES, f"{material.settings.seed}/lora"
    )
    best: tuple[float, float, int, LowRankChange] | None = None
    rates, epochs = (LEARNING_RATES, EPOCHS) if len(known) < MANY else (LEARNING_RATES[:2], 2)
    runs = len(rates) * epochs
    with aside(), material.run.stage(name, title, runs * (len(known) + len(judges))) as done:
        train = _trainer()
        for rate in rates:

            def judge(epoch: int, trained: nn.Module, rate: float = rate) -> None:
                nonlocal best
                change = LowRankChange.of(trained)
                with change.on(material.model):
                    odds = log_odds(material.scores(judges))
                done(len(judges))
                accuracy = balanced_accuracy(odds, judges)
                if best is None or accuracy > best[0]:
                    best = accuracy, rate, epoch, change

            train(material, known, rate, epochs, judge, done)
    assert best is not None
    accuracy, rate, epoch, change = best
    return Fitted(
        on=change.on,
        parameters=change.parameters,
        chosen={
            "learning_rate": rate,
            "epochs": epoch,
            "development_balanced_accuracy": accuracy,
        },
    )


def _check(title: str, model: PreTrainedModel, examples: Sequence[BinaryExample]) -> None:
    if processes.count() > 1:
        raise NasAlignError(
            "LoRA is trained by a single process; start nasalign without accelerate launch."
        )
    if any(type(weight) is not nn.Parameter for weight in model.parameters()):
        raise NasAlignError("LoRA is compared on whole weights; load the model unquantised.")
    if not examples:
        raise NothingToFixError(f"There is no sample to train {title} on; probe more questions.")


def _trainer() -> Callable[..., None]:
    """What trains, imported only now: it takes seconds, and TRL may not be there."""
    require("rivals")
    from nasalign.rivals.lora_training import train

    return train


def training_samples(
    material: Material, examples: Sequence[BinaryExample]
) -> list[tuple[BinaryPrompt, int]]:
    """Returns prompts, each with the first token of its right answer.

    Raises:
        PromptError: an answer word has no such token, or a prompt is too long for the model.
    """
    builder = material.builder()
    prompts = [builder.binary(example) for example in examples]
    check_lengths(material.model, prompts, more=1)
    return [
        (prompt, _answer_token(prompt, example.known_label))
        for prompt, example in zip(prompts, examples, strict=True)
    ]


def _answer_token(prompt: BinaryPrompt, label: bool) -> int:
    token = prompt.answers.target if label else prompt.answers.other_target
    if token is None:
        raise PromptError(
            "The negative answer does not begin with a token of its own, so LoRA cannot be trained "
            "on it; choose another vocabulary."
        )
    return token


def _whole_questions(
    examples: Sequence[BinaryExample], size: int, seed: str
) -> list[BinaryExample]:
    """At most ``size`` examples, drawn by the seed with all that are about the same question."""
    groups: dict[tuple[str, str | None], list[int]] = {}
    for place, example in enumerate(examples):
        groups.setdefault((example.question, example.context), []).append(place)
    order = list(groups.values())
    random.Random(seed).shuffle(order)
    chosen: list[int] = []
    for places in order:
        if len(chosen) + len(places) <= size:
            chosen += places
    return [examples[place] for place in sorted(chosen)]


@contextmanager
def aside() -> Iterator[None]:
    """Keeps the trainer silent and from the network, and puts the global random state back."""
    disabled, verbosity = logging.root.manager.disable, transformers_logging.get_verbosity()
    telemetry, python, numpy = (
        constants.HF_HUB_DISABLE_TELEMETRY,
        random.getstate(),
        np.random.get_state(),
    )
    devices = range(torch.cuda.device_count())
    with warnings.catch_warnings(), torch.random.fork_rng(devices=devices):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        constants.HF_HUB_DISABLE_TELEMETRY = True
        try:
            yield
        finally:
            constants.HF_HUB_DISABLE_TELEMETRY = telemetry
            logging.disable(disabled)
            transformers_logging.set_verbosity(verbosity)
            random.setstate(python)
            np.random.set_state(numpy)
