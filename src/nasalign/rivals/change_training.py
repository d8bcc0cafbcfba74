"""Training a change on pairs of a right and a wrong answer: the same loop for every rival.

The loss is that of the right verdict's first token alone, after the same tokens that the model is
evaluated with.
"""

import math
import random
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel, get_cosine_schedule_with_warmup

from nasalign.data.records import BinaryExample
from nasalign.errors import PromptError
from nasalign.inference.batches import check_lengths, halved
from nasalign.inference.forward import answer_logits
from nasalign.models.memory import explained
from nasalign.progress import Progress
from nasalign.prompts.builder import BinaryPrompt
from nasalign.rivals.change import Change
from nasalign.rivals.rival import Material

EPOCHS = 2
PAIRS_A_STEP = 4
"""A step is of 8 prompts: small steps learn more than fewer large ones (docs/log.md)."""
WARMUP_STEPS = 10
BETAS = (0.9, 0.95)
GRADIENT_NORM = 1.0

Sample = tuple[BinaryPrompt, int]
"""A prompt and the first token of its right verdict."""
SamplePair = tuple[Sample, Sample]
"""A question with its right and with a wrong answer."""


def steps_of(pairs: int, epochs: int = EPOCHS) -> int:
    """Return the number of training steps on so many pairs."""
    return epochs * math.ceil(pairs / PAIRS_A_STEP)


def training_samples(material: Material, examples: Sequence[BinaryExample]) -> list[Sample]:
    """Return prompts, each with the first token of its right verdict.

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
                "The negative answer does not begin with a token of its own, so nothing can be "
                "trained on it; choose another vocabulary."
            )
        samples.append((prompt, token))
    return samples


def train_epochs(
    material: Material,
    change: Change,
    pairs: Sequence[SamplePair],
    rate: float,
    progress: Progress,
    epochs: int = EPOCHS,
) -> Iterator[int]:
    """Train a change, and yield the number of each epoch after it.

    AdamW with warm-up and cosine decay from the highest learning rate ``rate`` to 0 at the end of
    the last epoch. The order of the pairs is that of the seed, the same for every change. While the
    caller has the control, the model has no hook of the change, which is in evaluation mode.

    Raises:
        OutOfMemoryError: memory does not hold the gradient of a single sample.
    """
    model, part = material.model, 2 * PAIRS_A_STEP
    weights = list(change.parameters())
    adam = torch.optim.AdamW(weights, lr=rate, betas=BETAS, weight_decay=0.0)
    steps = steps_of(len(pairs), epochs)
    schedule = get_cosine_schedule_with_warmup(adam, min(WARMUP_STEPS, steps // 4), steps)
    rng = random.Random(f"{material.settings.seed}/rivals")
    noise = torch.Generator().manual_seed(material.settings.seed)
    for epoch in range(1, epochs + 1):
        order = rng.sample(pairs, len(pairs))
        change.train()
        for start in range(0, len(order), PAIRS_A_STEP):
            batch = [sample for pair in order[start : start + PAIRS_A_STEP] for sample in pair]
            change.draw(noise)
            with explained("training a rival", model), change.on(model):
                work = partial(_backward, model, change, batch, part)
                while halved(work, min(part, len(batch))):
                    part = (min(part, len(batch)) + 1) // 2  # stays so: memory grows no larger
                    work = partial(_backward, model, change, batch, part)
            nn.utils.clip_grad_norm_(weights, GRADIENT_NORM)
            adam.step()
            schedule.step()
            progress(len(batch))
        change.eval()
        yield epoch


def _backward(model: PreTrainedModel, change: Change, batch: Sequence[Sample], size: int) -> None:
    """Compute the gradient of the mean loss of a batch, of ``size`` samples at a time."""
    change.zero_grad()  # also of a larger part, in which memory ran out
    for start in range(0, len(batch), size):
        part = batch[start : start + size]
        logits = answer_logits(model, [prompt for prompt, _ in part])  # [B, vocabulary]
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        answers = torch.tensor([answer for _, answer in part], device=logits.device)
        (functional.cross_entropy(logits, answers, reduction="sum") / len(batch)).backward()
    penalty = change.penalty()
    if penalty is not None:
        penalty.backward()
