"""Tuning all chosen heads at once, on answers to affirm and answers to deny (nasa+).

What changes of a head is its query, key and value rows and its columns of the output projection,
each by a product of two small matrices (LoRA): a step moves whole directions of a weight, which
takes a quarter of the steps that the weights themselves would need (docs/log.md).

Samples come in pairs: a question with its right answer and with a wrong one. The loss of a batch is

    mean of (-log P(Yes | right) - log P(No | wrong)) / 2 + centring * (lean of the pair)^2
        + kl_weight * KL(untouched || changed) of free answers

where the lean of a pair is the mean of its two log odds of Yes.

Unlike the likelihood of "Yes" alone, the first part punishes a Yes to a wrong answer as much as a
No to a right one, and where the model cannot tell them apart it is least at a probability of one
half. There, though, it is so flat that a small lean decides every verdict; the second part is what
holds the share of Yes at one half, for each question by itself. The third holds what the model says
where nobody asks for yes or no (``divergence``). (A logistic loss of the odds alone lets the
probability of both words go to nothing, and with it every free answer: docs/log.md.)
After each epoch the loss is measured on pairs of several kinds about other subjects, kind by kind;
the epoch of least mean loss is kept, and that may be none.

Unless a learning rate is given, it is found by the loss of the first steps (``head_rows.rates``).
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nasalign.config import Settings
from nasalign.head_rows.activations import GIB, ActivationMemory
from nasalign.head_rows.low_rank import (
    BETAS,
    GRADIENT_NORM,
    WARMUP_STEPS,
    LowRankChange,
    changed_rows,
    outputs_of,
)
from nasalign.head_rows.optimizer import RowOptimizer
from nasalign.head_rows.rates import best_attempt, late_loss, steps_tried
from nasalign.head_rows.replay import Replay, replay_plan
from nasalign.head_rows.rows import read_weight_rows, write_rows
from nasalign.inference.batches import in_batches, shuffled_batches
from nasalign.models.geometry import HeadGeometry
from nasalign.nas.heads import Head
from nasalign.nasa_plus.attribution import answer_log_probabilities
from nasalign.nasa_plus.divergence import Divergence
from nasalign.nasa_plus.head_parts import joint_slices
from nasalign.nasa_plus.joint_pairs import (
    JointRecord,
    JointSamples,
    prompts_of,
    verdicts,
)
from nasalign.progress import Progress

RATES = (3e-3, 1e-3, 3e-4, 1e-4, 3e-5)
"""Learning rates that are tried; most models need two of them."""


def pairs_a_step(settings: Settings) -> int:
    """Return the number of pairs of a step."""
    return max(1, settings.joint_batch_size // 2)


def steps_of(settings: Settings, pairs: int) -> tuple[int, int]:
    """Return the number of steps of training on so many pairs, and for how many a rate is tried."""
    epoch = -(-pairs // pairs_a_step(settings))
    steps = settings.joint_epochs * epoch
    return steps, min(epoch, steps_tried(steps))


class _Attempt(NamedTuple):
    """A change that was trained for some steps at one learning rate, to be trained on."""

    rate: float
    change: LowRankChange
    optimizer: RowOptimizer
    losses: list[float]  # of each step

    @property
    def loss(self) -> float:
        return late_loss(self.losses)


class JointTuner:
    """Tunes several heads of a model in memory together; changes the model.

    Args:
        model: the model; its parameters must not require gradients.
        samples: pairs and free answers.
        heads: those that change.
        settings: ``joint_*``, ``centring``, ``kl_weight``, ``k_scope``, batch sizes,
            ``replay_gib`` and seed.
        progress: called after each batch that is trained or measured.

    Attributes:
        tried: the loss by which a learning rate was chosen, by rate; empty where one was given.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        samples: JointSamples,
        heads: Sequence[Head],
        settings: Settings,
        progress: Progress | None = None,
    ) -> None:
        self.model, self.settings, self.progress = model, settings, progress
        self.heads = heads
        self.tuning, self.validation = samples.tuning, samples.validation
        self.kinds: dict[str, list[int]] = {}  # the held-back pairs of each
        for place, pair in sorted(enumerate(self.validation), key=lambda one: one[1].kind):
            self.kinds.setdefault(pair.kind, []).append(place)
        geometry = HeadGeometry.of(model)
        # Below the lowest chosen head nothing changes, so its input is computed once and replayed.
        self.layer = min(geometry.firsts[head.layer] for head in heads)
        slices, columns = joint_slices(model, heads, settings)
        self.before = {where: read_weight_rows(model, where) for where in slices}
        outputs = outputs_of(model, slices)
        self.fresh = partial(LowRankChange, model, outputs, settings.seed, columns)
        gib = settings.replay_gib
        self.memory = ActivationMemory(None if gib is None else int(gib * GIB))
        self.replays = [
            Replay(model, prompts_of(part), settings.batch_size, self.memory, pack=True)
            for part in (self.tuning, self.validation)
        ]
        for replay in self.replays:
            replay.prepare(self.layer)
        self.divergence = None
        if samples.free:
            self.divergence = Divergence(
                model, samples.free, self.layer, settings.batch_size, self.memory
            )
        self.size = pairs_a_step(settings)
        self.lengths = [len(pair.right.token_ids) for pair in self.tuning]
        self.steps, self.tried_steps = steps_of(settings, len(self.tuning))
        rate = settings.joint_learning_rate
        self.begin(RATES[0] if rate == "auto" else rate)
        self.tried: dict[float, float] = {}
        self.order = random.Random(settings.seed)
        self.epoch, self.least = 0, math.inf
        self.best = self.change.copies()

    def begin(self, rate: float) -> None:
        """Start with an untrained change, to be trained at a rate."""
        self.rate, self.change = rate, self.fresh()
        weights = list(self.change.parameters())
        self.optimizer = RowOptimizer(
            self.model,
            weights,
            self._losses,
            [rate] * len(weights),
            min(WARMUP_STEPS, self.steps // 4),
            self.steps,
            self.size,
            max(len(prompt.token_ids) for prompt in prompts_of(self.tuning)),
            BETAS,
            GRADIENT_NORM,
        )

    def replay_plan(self) -> str:
        """Return a sentence on whether replay is exact, the memory it needs and where it may be."""
        return replay_plan(self.replays, [self.layer], "the pairs")

    def tune(self) -> Iterator[JointRecord]:
        """Train and measure epoch after epoch, and leave the best in the model."""
        yield self._measured(math.nan)
        for _ in range(self.settings.joint_epochs):
            loss = self.train_epoch()
            if not math.isfinite(loss):
                break
            yield self._measured(loss)
        self.take_best()

    def train_epoch(self) -> float:
        """Train an epoch, write its rows into the model and return the mean loss.

        The rows are not written where a loss is not finite. The first epoch finds the rate.
        """
        batches = shuffled_batches(self.lengths, self.size, self.order)
        losses: list[float] = []
        if self.epoch == 0 and self.settings.joint_learning_rate == "auto":
            losses += self._at_best_rate(batches[: self.tried_steps])
        if math.isfinite(sum(losses)):  # else every rate diverged
            losses += self._train(batches[len(losses) :])
        if not math.isfinite(sum(losses)):
            return math.nan
        self.write()
        self.epoch += 1
        total = sum(one * len(batch) for one, batch in zip(losses, batches, strict=True))
        return total / len(self.tuning)

    def take_best(self) -> None:
        """Write the rows of the best epoch into the model; of epoch 0 they are the untouched."""
        self.change.load_state_dict(self.best)
        self.write()

    def write(self) -> None:
        """Write the untouched rows with their change into the model."""
        for where, rows in changed_rows(self.before, self.change.factors).items():
            write_rows(self.model, where, rows)

    def restore(self) -> None:
        """Put the untouched rows back into the model, to the bit."""
        for where, rows in self.before.items():
            write_rows(self.model, where, rows)

    def _at_best_rate(self, batches: Sequence[list[int]]) -> list[float]:
        """Train at falling rates until one is no better; go on with the best; return its losses."""

        def attempt(rate: float) -> _Attempt:
            self.begin(rate)
            # The progress knows of two rates.
            losses = self._train(batches, shown=len(self.tried) < 2)
            found = _Attempt(rate, self.change, self.optimizer, losses)
            self.tried[rate] = found.loss
            return found

        self.rate, self.change, self.optimizer, losses = best_attempt(RATES, attempt)
        return losses

    def _train(self, batches: Sequence[list[int]], shown: bool = True) -> list[float]:
        """Take a step on each batch; return the losses. One that is not finite is the last."""
        losses: list[float] = []
        self.restore()  # what is trained is added by hooks
        with self.change.on(self.model):
            for batch in batches:
                losses.append(self.optimizer.step(batch))
                if not math.isfinite(losses[-1]):
                    break
                if self.progress and shown:
                    self.progress(2 * len(batch))
        return losses

    def _measured(self, loss: float) -> JointRecord:
        """Measure the held-back pairs with the rows as last written."""
        found = self.record_of(self.epoch, loss)
        # Epoch 0 counts even with a NaN loss: without any better epoch the model stays untouched.
        if self.epoch == 0 or found.validation < self.least:
            self.least, self.best = found.validation, self.change.copies()
            found = replace(found, kept=True)
        return found

    @torch.no_grad()
    def record_of(self, epoch: int, loss: float) -> JointRecord:
        """Measure the held-back pairs as the model is now; the record is not marked as kept."""
        said = self.held_back()
        found = {kind: verdicts(said[mine]) for kind, mine in self.kinds.items()}
        losses = [float(self._loss_of(said[mine])) for mine in self.kinds.values()]
        return JointRecord(
            epoch,
            loss,
            self.rate if epoch else math.nan,
            validation=sum(losses) / len(losses),
            accuracy={kind: one.accuracy for kind, one in found.items()},
            auc={kind: one.auc for kind, one in found.items()},
            yes_rate={kind: one.yes_rate for kind, one in found.items()},
            kept=False,
        )

    def held_back(self, back: Callable[[Tensor, list[int]], Any] | None = None) -> Tensor:
        """Return log probabilities [pairs, right and wrong, Yes and No] of the held-back pairs.

        Args:
            back: called with those of each batch of prompts, [B, 2], and the places of its prompts
                among the right and wrong prompts of all pairs, in turn; it may run backwards.

        Returns:
            Float64 on the CPU, without gradients.
        """
        replay, asked = self.replays[1], prompts_of(self.validation)
        said = torch.zeros(len(asked), 2, dtype=torch.float64)

        def work(indices: list[int]) -> None:
            prompts = [asked[index] for index in indices]
            found = answer_log_probabilities(replay.logits(indices, self.layer), prompts)
            if back:
                back(found, indices)
            said[indices] = found.detach().cpu().double()

        # A backward pass keeps what each layer computes: no more prompts than in a step.
        size = self.settings.joint_batch_size if back else self.settings.batch_size
        in_batches(self.model, asked, size, work, self.progress, doing="measuring held-back pairs")
        return said.reshape(-1, 2, 2)

    def _losses(self, parts: Sequence[list[int]], count: int) -> Iterator[Tensor]:
        """Yield each part's share of the mean loss of a batch of ``count`` pairs.

        The divergence is a mean over the tokens of the whole batch.
        """
        free = self.divergence
        # Half as many free answers as pairs are held (docs/log.md), however the batch is parted.
        starts = accumulate(map(len, parts), initial=0)
        held = [part[start % 2 :: 2] for part, start in zip(parts, starts, strict=False)]
        tokens = free.tokens([place for part in held for place in part]) if free else 0
        for part, own in zip(parts, held, strict=True):
            loss = self._loss_of(self._said(part)) * (len(part) / count)
            if free and own:
                share = free.tokens(own) / tokens
                loss = loss + self.settings.kl_weight * free.of(own) * share
            yield loss

    def _said(self, places: list[int]) -> Tensor:
        """Log probabilities [pairs, right and wrong, Yes and No] of some pairs to learn from."""
        # As in ``prompts_of``: those of pair i are 2 i (right answer) and 2 i + 1 (wrong one).
        own = [2 * place + side for place in places for side in (0, 1)]
        prompts = prompts_of([self.tuning[place] for place in places])
        said = answer_log_probabilities(self.replays[0].logits(own, self.layer), prompts)
        return said.reshape(-1, 2, 2)

    def _loss_of(self, said: Tensor) -> Tensor:
        """The mean loss of log probabilities [pairs, right and wrong, Yes and No]."""
        surprise = -(said[:, 0, 0] + said[:, 1, 1]) / 2
        lean = (said[..., 0] - said[..., 1]).mean(dim=-1)  # of each pair
        return (surprise + self.settings.centring * lean**2).mean()
