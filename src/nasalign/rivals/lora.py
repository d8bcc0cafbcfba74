"""LoRA (Hu et al., 2022): low-rank changes of all linear layers, by PEFT and a plain loop."""

import math
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, get_cosine_schedule_with_warmup

from nasalign.data.records import BinaryExample
from nasalign.errors import NasAlignError, NothingToFixError, PromptError
from nasalign.inference.batches import check_lengths, halved
from nasalign.inference.forward import answer_logits
from nasalign.models import processes
from nasalign.models.geometry import text_model
from nasalign.models.memory import explained
from nasalign.progress import Progress
from nasalign.prompts.builder import BinaryPrompt
from nasalign.rivals.rival import Fitted, Material, Rival, balanced_accuracy, odds_of

RANK, ALPHA = 16, 32
BATCH_SIZE = 16
GRADIENT_NORM = 1.0
LEARNING_RATES = (1e-4, 3e-4, 1e-3)
EPOCHS = 3
MANY = 400
"""From so many samples on, two rates and two epochs are tried: still more steps than for fewer."""
DEVELOPMENT_EXAMPLES = 100
"""Maximum number of examples by which rate and number of epochs are chosen."""

Sample = tuple[BinaryPrompt, int]
"""A prompt and the first token of its right answer."""


@dataclass(frozen=True, eq=False)
class LowRankChange:
    """What LoRA adds to linear modules: ``scale * up @ down @ x``, scale being alpha / r."""

    factors: dict[str, tuple[Tensor, Tensor]]  # by module: down [r, in], up [out, r]; >= float32
    scale: float = ALPHA / RANK

    @classmethod
    def of(cls, model: nn.Module) -> "LowRankChange":
        """Copy the change out of a model that holds PEFT's LoRA layers.

        Raises:
            NasAlignError: one of them wraps something other than a linear module.
        """
        factors = {}
        for name, module in model.named_modules():
            if isinstance(module, LoraLayer):
                if not isinstance(module.get_base_layer(), nn.Linear):
                    raise NasAlignError(
                        "PEFT puts LoRA into the joint weights of this model's experts, which "
                        "cannot be compared; leave the LoRA rows out."
                    )
                both = module.lora_A["default"].weight, module.lora_B["default"].weight
                factors[name] = both[0].detach().clone(), both[1].detach().clone()
        return cls(factors)

    @contextmanager
    def on(self, model: PreTrainedModel) -> Iterator[None]:
        """Add the change to the output of the modules while in the context.

        Hooks instead of PEFT's layers: the modules keep their types, which whatever reads the
        architecture relies on. No weight is written, so leaving restores the model to the bit, and
        in bfloat16 only the sum with the module's output is rounded, as by PEFT; merged into the
        weights, most of so small a change would be lost.
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
    """Return the row that trains a LoRA on the examples that ``samples`` picks of the material.

    The loss is that of the right answer's first token alone, after the same tokens that the model
    is evaluated with. Learning rate and number of epochs are those of the best balanced accuracy
    on the development split; among equals, the smaller rate, then the fewer epochs.
    """

    def fit(material: Material) -> Fitted:
        return _fit(name, title, material, samples(material))

    return Rival(name, title, serving="an adapter, or merged weights", logits=False, fit=fit)


def _fit(name: str, title: str, material: Material, examples: Sequence[BinaryExample]) -> Fitted:
    _check(title, material.model, examples)
    model, seed = material.model, material.settings.seed
    known = training_samples(material, examples)
    judges = _whole_questions(material.development, f"{seed}/lora")
    best: tuple[float, float, int, LowRankChange] | None = None
    rates, epochs = (LEARNING_RATES, EPOCHS) if len(known) < MANY else (LEARNING_RATES[:2], 2)
    total = len(rates) * epochs * (len(known) + len(judges))
    with material.run.stage(name, title, total) as done:
        for rate in rates:
            with lora_layers(model, seed):
                for epoch in train_epochs(material, known, rate, epochs, done):
                    accuracy = balanced_accuracy(odds_of(material.scores(judges)), judges)
                    done(len(judges))
                    if best is None or accuracy > best[0]:
                        best = accuracy, rate, epoch, LowRankChange.of(model)
    assert best is not None
    accuracy, rate, epoch, change = best
    chosen = {
        "learning_rate": rate,
        "epochs": epoch,
        "development_balanced_accuracy": accuracy,
    }
    parameters = sum(down.numel() + up.numel() for down, up in change.factors.values())
    return Fitted(on=change.on, parameters=parameters, chosen=chosen)


def _check(title: str, model: PreTrainedModel, examples: Sequence[BinaryExample]) -> None:
    if processes.count() > 1:
        raise NasAlignError(
            "LoRA is trained by a single process; start nasalign without accelerate launch."
        )
    if any(type(weight) is not nn.Parameter for weight in model.parameters()):
        raise NasAlignError("LoRA is compared on whole weights; load the model unquantised.")
    if not examples:
        raise NothingToFixError(f"There is no sample to train {title} on; probe more questions.")


@contextmanager
def lora_layers(model: PreTrainedModel, seed: int) -> Iterator[None]:
    """Put fresh LoRA layers of PEFT around all linear modules of the text model.

    Only their weights require gradients. On leaving, the model has its own modules again, with
    weights that nothing has written to.
    """
    text, output = text_model(model)[0], model.get_output_embeddings()
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not output and name.startswith(text)
    ]
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=linear)
    # PEFT draws the first weights from the global random state, which is not ours to move.
    with torch.random.fork_rng(range(torch.cuda.device_count())), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about options of PEFT that are not used here
        torch.manual_seed(seed)
        wrapped = get_peft_model(model, config)
    try:
        yield
    finally:
        wrapped.unload()


def train_epochs(
    material: Material, samples: Sequence[Sample], rate: float, epochs: int, progress: Progress
) -> Iterator[int]:
    """Train the LoRA layers of the model, and yield the number of each epoch after it.

    AdamW with warm-up and cosine decay from the highest learning rate ``rate`` to 0.

    Raises:
        OutOfMemoryError: memory does not hold the gradient of a single sample.
    """
    model, part = material.model, BATCH_SIZE
    weights = [one for one in model.parameters() if one.requires_grad]
    adam = torch.optim.AdamW(weights, lr=rate, weight_decay=0.0)
    steps = epochs * math.ceil(len(samples) / BATCH_SIZE)
    warmup = math.ceil(material.settings.warmup_ratio * steps)
    schedule = get_cosine_schedule_with_warmup(adam, warmup, steps)
    rng = random.Random(f"{material.settings.seed}/lora")
    for epoch in range(1, epochs + 1):
        order = rng.sample(samples, len(samples))
        for start in range(0, len(order), BATCH_SIZE):
            batch = order[start : start + BATCH_SIZE]
            with explained("training a LoRA", model):
                while halved(partial(_backward, model, batch, part), min(part, len(batch))):
                    part = (min(part, len(batch)) + 1) // 2  # stays so: memory grows no larger
            nn.utils.clip_grad_norm_(weights, GRADIENT_NORM)
            adam.step()
            schedule.step()
            progress(len(batch))
        yield epoch


def _backward(model: PreTrainedModel, batch: Sequence[Sample], size: int) -> None:
    """Compute the gradient of the mean loss of a batch, of ``size`` samples at a time."""
    model.zero_grad()  # also of a larger part, in which memory ran out
    for start in range(0, len(batch), size):
        part = batch[start : start + size]
        logits = answer_logits(model, [prompt for prompt, _ in part])  # [B, vocabulary]
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        answers = torch.tensor([answer for _, answer in part], device=logits.device)
        (functional.cross_entropy(logits, answers, reduction="sum") / len(batch)).backward()


def training_samples(material: Material, examples: Sequence[BinaryExample]) -> list[Sample]:
    """Return prompts, each with the first token of its right answer.

    Raises:
        PromptError: an answer word has no such token, or a prompt is too long for the model.
    """
    builder = material.builder()
    prompts = [builder.binary(example) for example in examples]
    check_lengths(material.model, prompts, more=1)
    samples: list[Sample] = []
    for prompt, example in zip(prompts, examples, strict=True):
        token = prompt.answers.target if example.known_label else prompt.answers.other_target
        if token is None:
            raise PromptError(
                "The negative answer does not begin with a token of its own, so LoRA cannot be "
                "trained on it; choose another vocabulary."
            )
        samples.append((prompt, token))
    return samples


def _whole_questions(examples: Sequence[BinaryExample], draw: str) -> list[BinaryExample]:
    """Draw the examples to choose by; those about one question are taken all or not at all."""
    groups: dict[tuple[str, str | None], list[int]] = {}
    for place, example in enumerate(examples):
        groups.setdefault((example.question, example.context), []).append(place)
    order = list(groups.values())
    random.Random(draw).shuffle(order)
    chosen: list[int] = []
    for places in order:
        if len(chosen) + len(places) <= DEVELOPMENT_EXAMPLES:
            chosen += places
    return [examples[place] for place in sorted(chosen)]
