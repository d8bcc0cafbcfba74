"""Tuning the rows of all chosen heads at once, on answers to affirm and answers to deny (nasa+).

The loss is the logistic loss of the log odds of the two answer words. Unlike the likelihood of
"Yes" alone it punishes a Yes to a wrong answer as much as a No to a right one, and where the model
cannot tell them apart it is least at a probability of one half. After each epoch it is measured on
samples of several kinds about other subjects; the epoch of least loss is kept, and that may be
none.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from nasalign.alignment.activations import GIB, ActivationMemory
from nasalign.alignment.attribution import answer_log_odds
from nasalign.alignment.optimizer import RowOptimizer
from nasalign.alignment.replay import Replay
from nasalign.alignment.rows import TunableRows, head_slices, joined
from nasalign.config import Settings
from nasalign.data.chat import Progress
from nasalign.data.prompts import BinaryPrompt
from nasalign.models import processes
from nasalign.models.geometry import HeadGeometry
from nasalign.nas.batches import in_batches
from nasalign.nas.heads import Head

ALIKE = 10
"""Batches' worth of samples that are drawn at once and sorted by length."""


@dataclass(frozen=True)
class Labelled:
    """A prompt, the right verdict, and which kind of sample it is."""

    prompt: BinaryPrompt
    label: bool
    kind: str


@dataclass(frozen=True)
class JointRecord:
    """The state after an epoch; epoch 0 is the untouched model.

    Attributes:
        epoch: number of epochs so far.
        loss: mean logistic loss of the epoch's training samples, NaN before the first.
        validation: mean over kinds of the mean logistic loss on the held-back samples, in nats.
        accuracy: share of held-back samples answered rightly, by kind.
        yes_rate: share of held-back samples answered positively, by kind.
        kept: whether this is the epoch of least validation loss so far.
    """

    epoch: int
    loss: float
    validation: float
    accuracy: dict[str, float]
    yes_rate: dict[str, float]
    kept: bool

    def as_row(self) -> dict[str, Any]:
        """Returns a plain row of ``tuning.jsonl``."""
        return {"record": "joint", **asdict(self)}


class JointTuner:
    """Tunes the rows of several heads of a model in memory together; it changes the model.

    Args:
        model: the model; its parameters must not require gradients.
        tuning: samples to learn from.
        validation: samples of other subjects, by which the epoch is chosen.
        heads: whose rows move.
        settings: learning rate, epochs, batch sizes, ``k_scope``, ``replay_gib`` and seed.
        progress: told of each sample trained on or measured.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tuning: Sequence[Labelled],
        validation: Sequence[Labelled],
        heads: Sequence[Head],
        settings: Settings,
        progress: Progress | None = None,
    ) -> None:
        self.model, self.settings, self.progress = model, settings, progress
        self.tuning, self.validation = tuning, validation
        geometry = HeadGeometry.of(model)
        self.layer = min(head.layer for head in heads)
        slices = [head_slices(geometry, *head[:2], settings.k_scope) for head in heads]
        self.rows = TunableRows(model, joined(where for part in slices for where in part))
        gib = settings.replay_gib
        self.memory = ActivationMemory(None if gib is None else int(gib * GIB))
        self.replays = [
            Replay(model, [one.prompt for one in part], settings.batch_size, self.memory)
            for part in (tuning, validation)
        ]
        for replay in self.replays:
            replay.prepare(self.layer)
        steps = settings.joint_epochs * -(-len(tuning) // settings.joint_batch_size)
        self.optimizer = RowOptimizer(
            self.rows,
            self._loss,
            settings.joint_learning_rate,
            settings.warmup_ratio,
            steps,
            settings.joint_batch_size,
        )
        self.order = random.Random(settings.seed)
        self.epoch, self.least = 0, math.inf
        self.best = self._copies()

    def tune(self) -> Iterator[JointRecord]:
        """Runs all epochs, yields each with what it came to, and leaves the best in the model."""
        yield self._measured(math.nan)
        for _ in range(self.settings.joint_epochs):
            loss = self._train_epoch()
            record = self._measured(loss) if math.isfinite(loss) else None
            if record is None:
                break
            yield record
        for where, rows in self.best.items():
            self.rows.parameters[where].data.copy_(rows)
        self.rows.write()
        if self.least_epoch == 0:
            self.rows.restore()

    def _train_epoch(self) -> float:
        total = 0.0
        with self.rows:
            for batch in self._batches():
                loss = self.optimizer.step(batch)
                if not math.isfinite(loss):
                    return loss
                total += loss * len(batch)
                if self.progress:
                    self.progress(len(batch))
        self.rows.write()
        self.epoch += 1
        return total / len(self.tuning)

    def _batches(self) -> list[list[int]]:
        """All places in batches of like length, so that little is padded, in random order."""
        places, size = list(range(len(self.tuning))), self.settings.joint_batch_size
        self.order.shuffle(places)
        batches = []
        for start in range(0, len(places), ALIKE * size):
            pool = places[start : start + ALIKE * size]
            pool.sort(key=lambda place: len(self.tuning[place].prompt.token_ids))
            batches += [pool[at : at + size] for at in range(0, len(pool), size)]
        self.order.shuffle(batches)
        return batches

    def _measured(self, loss: float) -> JointRecord:
        """Measures the held-back samples with the rows as last written."""
        odds = torch.zeros(len(self.validation), dtype=torch.float64)
        replay = self.replays[1]

        @torch.no_grad()
        def work(indices: list[int]) -> None:
            prompts = [self.validation[index].prompt for index in indices]
            odds[indices] = (
                answer_log_odds(replay.logits(indices, self.layer), prompts).double().cpu()
            )

        in_batches(self.model, replay.prompts, self.settings.batch_size, work, self.progress)
        processes.add_up(odds)
        losses, accuracy, yes_rate = {}, {}, {}
        for kind in sorted({one.kind for one in self.validation}):
            mine = [place for place, one in enumerate(self.validation) if one.kind == kind]
            labels = torch.tensor([self.validation[place].label for place in mine])
            said = odds[mine] > 0
            losses[kind] = float(_logistic(odds[mine], labels))
            accuracy[kind] = float((said == labels).double().mean())
            yes_rate[kind] = float(said.double().mean())
        validation = sum(losses.values()) / len(losses)
        kept = validation < self.least
        if kept:
            self.least, self.least_epoch, self.best = validation, self.epoch, self._copies()
        return JointRecord(self.epoch, loss, validation, accuracy, yes_rate, kept)

    def _loss(self, places: list[int]) -> Tensor:
        logits = self.replays[0].logits(places, self.layer)
        samples = [self.tuning[place] for place in places]
        odds = answer_log_odds(logits, [one.prompt for one in samples])
        return _logistic(odds, torch.tensor([one.label for one in samples]))

    def _copies(self) -> dict[Any, Tensor]:
        return {where: rows.detach().clone() for where, rows in self.rows.parameters.items()}


def _logistic(odds: Tensor, labels: Tensor) -> Tensor:
    """The mean logistic loss of log odds [N] of the positive word, in nats."""
    return functional.binary_cross_entropy_with_logits(odds, labels.to(odds))
