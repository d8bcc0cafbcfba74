"""Training one head's rows on the token "Yes", and measuring the validation set (Section 4.3)."""

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from nasalign.config import Settings
from nasalign.head_rows.activations import GIB, ActivationMemory
from nasalign.head_rows.optimizer import RowOptimizer
from nasalign.head_rows.replay import Replay, replay_plan
from nasalign.head_rows.rows import TunableRows, head_slices
from nasalign.models.geometry import HeadGeometry
from nasalign.nas.heads import Head, single_head_nas
from nasalign.nasa.algorithm import Measurement
from nasalign.nasa.measuring import Watched
from nasalign.progress import Progress
from nasalign.prompts.builder import BinaryPrompt


class RowTuner:
    """Trains and measures a model in memory for Algorithm 1; changes the model.

    The optimiser is AdamW without weight decay; its rate warms up over the first
    ``warmup_ratio`` of a head's steps and falls by a cosine to zero over ``epochs`` epochs.

    Args:
        model: the model; its parameters must not require gradients.
        tuning: prompts of the fine-tuning set D, all with the positive label.
        validation: prompts of the validation set V.
        settings: learning rate, epochs, batch sizes, ``k_scope``, ``replay_gib`` and seed.
        heads: all heads in the order of tuning; replay keeps the activations of later ones too.
        balance: prompts whose share of Yes is measured in place of that of V, in an order of which
            each beginning is balanced.
        progress: called after each batch that is trained or measured.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tuning: Sequence[BinaryPrompt],
        validation: Sequence[BinaryPrompt],
        settings: Settings,
        heads: Sequence[Head] = (),
        progress: Progress | None = None,
        balance: Sequence[BinaryPrompt] = (),
    ) -> None:
        self.model, self.settings = model, settings
        self.tuning, self.validation, self.progress = tuning, validation, progress
        self.geometry = HeadGeometry.of(model)
        self.heads = [(head.layer, head.head) for head in heads]
        gib = settings.replay_gib
        self.memory = ActivationMemory(None if gib is None else int(gib * GIB))
        self.watched = Watched(model, validation, balance, settings, self.memory)
        own = Replay(model, tuning, settings.batch_size, self.memory)
        self.replays = [own, *self.watched.replays]
        self.layer, self.tuned = 0, False
        self.exact: TunableRows | None = None  # of the head at hand, where its weights round it
        self.relative_rate: float | None = None  # as a share of the size of the rows, where found
        self.part = settings.tuning_batch_size  # less where memory does not hold it
        self.nas: Tensor | None = None  # of V before the head at hand, [N, L, H]
        self.latest: Tensor | None = None  # of V as last measured

    def replay_plan(self) -> str:
        """Return a sentence on whether replay is exact, the memory it needs and where it may be."""
        lowest = {self.geometry.firsts[layer] for layer, _ in self.heads} or {0}
        return replay_plan(self.replays, sorted(lowest), "what is tuned on and held back")

    def measure(self) -> Measurement:
        """Score V and the balance set with the rows of the head in float32, always by logits.

        Only the layers from that of the head on run: below it nothing has changed.
        """
        with self.exact or nullcontext():
            return self._measured(self.progress)

    def log_probabilities(self) -> Tensor:
        """Return the mean log probability of the taught answer and of the other on V, [2]."""
        with self.exact or nullcontext():
            return self.watched.log_probabilities(self.layer, self.progress)

    def _measured(self, progress: Progress | None) -> Measurement:
        self.latest, yes_share = self.watched.measured(self.layer, progress)
        if self.nas is None:
            self.nas = self.latest
        # The layers below did not run; their NAS is that of before the head.
        self.latest[:, : self.layer] = self.nas[:, : self.layer]
        return Measurement(single_head_nas(self.latest), yes_share)

    def begin(self, head: Head) -> None:
        """Make the rows of a head parameters, with a new optimiser, schedule and order of D."""
        settings = self.settings
        if self.nas is None:
            self.measure()
        self.head, self.layer, self.tuned = head, self.geometry.firsts[head.layer], True
        for replay in self.replays:
            replay.prepare(self.layer, self._later())
        slices = head_slices(self.geometry, head.layer, head.head, settings.k_scope)
        self.rows = TunableRows(self.model, slices)
        self.exact = self.rows if self.rows.rounds else None
        steps = settings.epochs * -(-len(self.tuning) // settings.tuning_batch_size)
        self.optimizer = RowOptimizer(
            self.model,
            list(self.rows.parameters.values()),
            self._losses,
            self._rates(),
            round(settings.warmup_ratio * steps),
            steps,
            self.part,
            max(len(prompt.token_ids) for prompt in self.tuning),
        )
        # By head, so that a resumed run draws the same orders without the heads before.
        self.order = random.Random(f"{settings.seed}/{head.layer}/{head.head}")

    def train_epoch(self) -> float:
        """Train one epoch on D, write the rows, and return the mean loss.

        A loss that is not finite ends the epoch before its step and is returned.
        """
        self.way = [self.rows.copies()]
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
        return total / len(self.tuning)

    def trial(self, head: Head, steps: int, relative_rate: float) -> None:
        """Begin a head and take some steps of its first epoch, all at one rate.

        ``scale`` then goes along them, also beyond; ``put_back`` must follow.
        """
        self.relative_rate = relative_rate
        self.begin(head)
        self.way = [self.rows.copies()]
        with self.rows:
            for batch in self._batches()[:steps]:
                groups = self.optimizer.adam.param_groups  # the schedule may warm up for longer
                for group, rate in zip(groups, self._rates(), strict=True):
                    group["lr"] = rate
                self.optimizer.step(batch)
                if self.progress:
                    self.progress(len(batch))

    def put_back(self) -> None:
        """Undo a trial, to the bit; what is stored of the layers below its head stays."""
        self.restore()
        self.exact, self.layer, self.part = None, 0, self.optimizer.part
        del self.rows, self.optimizer

    def _rates(self) -> list[float]:
        """The highest rate for each of the rows of the head: that of the settings, or by size."""
        rate = self.settings.learning_rate
        if not isinstance(rate, str):
            return [rate] * len(self.rows.parameters)
        assert self.relative_rate is not None  # found before the first head begins
        return [self.relative_rate * size for size in self.rows.sizes()]

    def _batches(self) -> list[list[int]]:
        """Places in D of the batches of an epoch, in an order of its own."""
        places = list(range(len(self.tuning)))
        self.order.shuffle(places)
        size = self.settings.tuning_batch_size
        return [places[start : start + size] for start in range(0, len(places), size)]

    def scale(self, share: float) -> None:
        """Put the rows at a share of the way that the last epoch went; 1 is where it ended."""
        if len(self.way) == 1:
            self.way.append(self.rows.copies())
        for rows, start, end in zip(self.rows.parameters.values(), *self.way, strict=True):
            rows.data.copy_(torch.lerp(start, end, share))  # the ends themselves to the bit
        self.rows.write()

    def head_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the state of the current head after an epoch: tensors, and plain values."""
        assert self.latest is not None
        tensors = {"latest": self.latest}
        for place, parameter in enumerate(self.rows.parameters.values()):
            tensors[f"{place}/rows"] = parameter.detach().cpu()
            tensors[f"{place}/start"] = self.way[0][place].cpu()
            for name, value in self.optimizer.adam.state[parameter].items():
                tensors[f"{place}/{name}"] = value.cpu()
        return tensors, {"head": self.head[:2], "schedule": self.optimizer.schedule.state_dict()}

    def restore_head(self, tensors: dict[str, Tensor], meta: dict[str, Any], epochs: int) -> None:
        """Restore the state of the current head after some epochs, to the bit."""
        self.latest = tensors.pop("latest")
        self.way = [[]]
        for place, parameter in enumerate(self.rows.parameters.values()):
            parameter.data.copy_(tensors.pop(f"{place}/rows"))
            self.way[0].append(tensors.pop(f"{place}/start").to(parameter.device))
            self.optimizer.adam.state[parameter] = {
                name.partition("/")[2]: value.to(parameter.device if "avg" in name else "cpu")
                for name, value in tensors.items()
                if name.startswith(f"{place}/")
            }
        self.rows.write()
        schedule = self.optimizer.schedule
        schedule.load_state_dict(meta["schedule"])
        groups = self.optimizer.adam.param_groups
        for group, rate in zip(groups, schedule.get_last_lr(), strict=True):
            group["lr"] = rate
        # The order of D continues where the stored epochs have left the generator.
        for _ in range(epochs):
            self.order.shuffle(list(range(len(self.tuning))))

    def restore(self) -> None:
        """Restore the rows to their values at ``begin``, to the bit."""
        self.rows.restore()
        self.tuned = False

    def finish(self) -> Measurement | None:
        """Free the optimiser, and drop what a kept update has made out of date.

        Where the weights have rounded a kept update, V is measured again, with the weights.
        """
        rounded = self.exact is not None and self.tuned
        self.exact = None
        written = self._measured(None) if rounded else None
        if self.tuned:
            self.nas = self.latest
        for replay in self.replays:
            replay.forget(self.layer if self.tuned else None, self._later())
        self.part = self.optimizer.part
        del self.rows, self.optimizer
        return written

    def _later(self) -> list[int]:
        """Lowest layers that the heads after the one at hand change."""
        here = self.head[:2]
        after = self.heads.index(here) + 1 if here in self.heads else len(self.heads)
        return [self.geometry.firsts[layer] for layer, _ in self.heads[after:]]

    def _losses(self, parts: Sequence[list[int]], count: int) -> Iterator[Tensor]:
        """Yield each part's share of the mean loss of a batch of ``count`` samples."""
        for part in parts:
            yield self._loss(part) * (len(part) / count)

    def _loss(self, places: list[int]) -> Tensor:
        """The mean loss on the positive word as the first token; no end-of-sequence token."""
        targets = torch.tensor([self.tuning[place].answers.target for place in places])
        logits = self.replays[0].logits(places, self.layer)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return functional.cross_entropy(logits, targets.to(logits.device))
