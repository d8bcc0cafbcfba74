"""Training a change on pairs of a right and a wrong answer: the same loop for every rival.

The loss is that of the right verdict's first token alone, after the same tokens that the model is
evaluated with, and a term that holds the untouched model's right free answers (``divergence``).
"""

import random
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel, get_cosine_schedule_with_warmup

from nasalign.data.records import BinaryExample
from nasalign.errors import PromptError
from nasalign.head_rows.change import Change
from nasalign.head_rows.low_rank import BETAS, GRADIENT_NORM, WARMUP_STEPS
from nasalign.inference.batches import check_lengths, halved, shuffled_batches
from nasalign.models.memory import explained
from nasalign.nasa_plus.divergence import Divergence
from nasalign.progress import Progress
from nasalign.prompts.builder import BinaryPrompt
from nasalign.rivals.rival import Material

EPOCHS = 2
PAIRS_A_STEP = 4
"""A step is of 8 prompts: small steps learn more than fewer large ones (docs/log.md)."""
FREE_A_STEP = 2
"""Free answers that a step holds."""

Sample = tuple[BinaryPrompt, int]
"""A prompt and the first token of its right verdict."""
SamplePair = tuple[Sample, Sample]
"""A question with its right and with a wrong answer."""


def epochs_of(pairs: Sequence[SamplePair], seed: int) -> list[list[Sequence[SamplePair]]]:
    """Return the steps of each epoch, which are the same for every change.

    The pairs of a step are of like length.
    """
    rng = random.Random(f"{seed}/rivals")
    lengths = [len(right.token_ids) for (right, _), _ in pairs]
    return [
        [[pairs[place] for place in step] for step in shuffled_batches(lengths, PAIRS_A_STEP, rng)]
        for _ in range(EPOCHS)
    ]


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


def train(
    material: Material,
    change: Change,
    steps: Sequence[Sequence[SamplePair]],
    rate: float,
    progress: Progress,
    free: Divergence | None = None,
) -> Iterator[float]:
    """Train a change, and yield the mean loss of each step, by the change as it was before it.

    That is the loss of the pairs alone. ``free`` is added to what is trained on, with the weight
    ``kl_weight``.

    AdamW with warm-up and cosine decay from the highest learning rate ``rate`` to 0 at the end of
    the last step. While the caller has the control, the model has no hook of the change, which is
    in evaluation mode.

    Raises:
        OutOfMemoryError: memory does not hold the gradient of a single sample.
    """
    model, part = material.model, 2 * PAIRS_A_STEP
    weights = list(change.parameters())
    adam = torch.optim.AdamW(weights, lr=rate, betas=BETAS, weight_decay=0.0)
    warmup = min(WARMUP_STEPS, len(steps) // 4)
    schedule = get_cosine_schedule_with_warmup(adam, warmup, len(steps))
    noise = torch.Generator().manual_seed(material.settings.seed)
    for step in steps:
        batch = [sample for pair in step for sample in pair]
        change.train()
        change.draw(noise)
        count = len(free.answers) if free else 0
        held = torch.randperm(count, generator=noise)[:FREE_A_STEP].tolist()
        losses: list[float] = []
        with explained("training a rival", model), change.on(model):
            work = partial(_backward, model, change, batch, part, losses)
            while halved(work, min(part, len(batch))):
                part = (min(part, len(batch)) + 1) // 2  # stays so: memory grows no larger
                work = partial(_backward, model, change, batch, part, losses)
            if free:
                (material.settings.kl_weight * free.of(held)).backward()
        nn.utils.clip_grad_norm_(weights, GRADIENT_NORM)
        adam.step()
        schedule.step()
        change.eval()
        progress(len(batch))
        yield sum(losses)


def _backward(
    model: PreTrainedModel,
    change: Change,
    batch: Sequence[Sample],
    size: int,
    losses: list[float],
) -> None:
    """Compute the gradient of the mean loss of a batch, of ``size`` samples at a time.

    ``losses`` gets the share of each part in that mean, without the penalty.
    """
    change.zero_grad()  # also of a larger part, in which memory ran out
    losses.clear()
    for start in range(0, len(batch), size):
        part = batch[start : start + size]
        logits = change.logits(model, [prompt for prompt, _ in part])  # [B, vocabulary]
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        answers = torch.tensor([answer for _, answer in part], device=logits.device)
        loss = functional.cross_entropy(logits, answers, reduction="sum") / len(batch)
        loss.backward()
        losses.append(float(loss.detach()))
    penalty = change.penalty()
    if penalty is not None:
        penalty.backward()
