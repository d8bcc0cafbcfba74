"""One search for every rival that is trained: the same samples, steps, rates and selection.

The learning rate is found as that of nasa+ is (``head_rows.rates``), by the loss in an eighth of
the steps. So early it tells a rate that diverges, and little else: with all rates, a quarter of the
steps leaves the loss at that of guessing (docs/log.md). So the rates are near each other. The
verdicts of the development split choose the epoch. The test split is never looked at.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn
from transformers import PreTrainedModel

from nasalign.data.binary import sample
from nasalign.data.records import BinaryExample
from nasalign.errors import NasAlignError, NothingToFixError
from nasalign.evaluation.ranking import auc
from nasalign.head_rows.activations import ActivationMemory
from nasalign.head_rows.change import Change
from nasalign.head_rows.rates import best_attempt, late_loss, steps_tried
from nasalign.inference.packed import packs_exactly
from nasalign.nasa_plus.divergence import Answered, Divergence, answered
from nasalign.nasa_plus.joint_run import pairs_by_kind, right_free_answers
from nasalign.nasa_plus.kinds import held_back
from nasalign.progress import Progress
from nasalign.rivals.change_training import (
    SamplePair,
    epochs_of,
    train,
    training_samples,
)
from nasalign.rivals.rival import Fitted, Material, balanced_accuracy, odds_of

RATES = (5e-3, 2e-3, 8e-4, 3e-4, 1e-4)
"""Falling; most models need two of them."""
MOST_PAIRS = 224
"""Pairs that are trained on at most: 96 are too few (docs/log.md)."""
JUDGES = 100
"""Development examples by which rivals are chosen, at most."""


class Quality(NamedTuple):
    """How well log odds judge: by accuracy, and where that is equal by the AUC."""

    accuracy: float  # balanced
    auc: float

    @classmethod
    def of(cls, odds: Tensor, examples: Sequence[BinaryExample]) -> "Quality":
        """Return the quality of the log odds [N] of examples; the worst if one is not finite."""
        if not odds.isfinite().all():
            return cls(0.0, 0.0)
        labels = [example.known_label for example in examples]
        area = float(auc(odds.numpy(), labels, np.ones((1, len(labels))))[0])
        # Without both labels there is no AUC.
        return cls(balanced_accuracy(odds, examples), 0.5 if np.isnan(area) else area)

    def as_chosen(self) -> dict[str, float]:
        """Return what a row tells of the development split."""
        return {"development balanced accuracy": self.accuracy, "development AUC": self.auc}


def training_pairs(material: Material) -> list[tuple[BinaryExample, BinaryExample]]:
    """Return right and wrong answers to train on, the same for every rival.

    They are drawn from those of nasa+, without what that holds back, so of all of its kinds.
    """
    kinds = pairs_by_kind(material.session, material.asked, material.probing)
    seed = material.settings.seed
    every = [
        (pair.right, pair.wrong)
        for pairs in kinds.values()
        for pair in pairs
        if not held_back(pair.subject, seed)
    ]
    return sample(every, MOST_PAIRS, seed)


def judges_of(material: Material) -> list[BinaryExample]:
    """Return development examples to choose by, the same for every rival.

    Those about one question are taken all or not at all.
    """
    groups: dict[tuple[str, str | None], list[int]] = {}
    for place, example in enumerate(material.development):
        groups.setdefault((example.question, example.context), []).append(place)
    order = list(groups.values())
    random.Random(f"{material.settings.seed}/rivals").shuffle(order)
    chosen: list[int] = []
    for places in order:
        if len(chosen) + len(places) <= JUDGES:
            chosen += places
    return [material.development[place] for place in sorted(chosen)]


def free_answers_of(material: Material) -> list[Answered]:
    """Return right free answers of the untouched model, to be held; none with ``kl_weight`` 0."""
    right = right_free_answers(material.session, material.probing)
    return answered(material.builder(), right)


def check_better(title: str, found: Quality, untouched: Quality) -> None:
    """Raise NothingToFixError if what was found is no better than the untouched model."""
    if found <= untouched:
        raise NothingToFixError(
            f"{title} finds nothing that is better than the untouched model on the development "
            f"split (balanced accuracy {found.accuracy:.3f} beside {untouched.accuracy:.3f})."
        )


@dataclass
class _Trial:
    """A change at one learning rate, trained so far."""

    rate: float
    change: Change
    losses: Iterator[float]  # trains another step
    loss: float


class RateSearch:
    """The search of one rival.

    Args:
        material: what it is fitted on; its model is left as it was.
        name: of the row.
        title: of the rival, for messages.
        holds: whether the loss has a term that holds free answers; a change that cannot touch them
            needs none.

    Attributes:
        free: that term, or None.

    Raises:
        NasAlignError: the model is quantised, or a prompt does not fit.
        NothingToFixError: there is nothing to train on.
    """

    def __init__(self, material: Material, name: str, title: str, holds: bool = True) -> None:
        self.material, self.name, self.title = material, name, title
        _check_whole(material.model)
        examples = training_pairs(material)
        if not examples:
            raise NothingToFixError(
                f"There is no sample to train {title} on; probe more questions."
            )
        sides = [training_samples(material, side) for side in zip(*examples, strict=True)]
        self.pairs: list[SamplePair] = list(zip(*sides, strict=True))
        asked = [prompt for prompt, _ in chain.from_iterable(self.pairs)]
        self.packs = packs_exactly(material.model, asked)
        self.epochs = epochs_of(self.pairs, material.settings.seed)
        self.steps = list(chain.from_iterable(self.epochs))
        self.first = steps_tried(len(self.steps))
        self.judges = judges_of(material)
        answers = free_answers_of(material) if holds else []
        self.free = (
            Divergence(material.model, answers, 0, None, ActivationMemory()) if answers else None
        )

    def trained_first(self, change: Change, rate: float) -> None:
        """Train a change for half an epoch at one rate, as a step before the search."""
        title, stage = f"{self.title}: first step", f"{self.name}/first"
        steps = self.epochs[0][: max(1, len(self.epochs[0]) // 2)]
        with self.material.run.stage(stage, title, _prompts_of(steps)) as done:
            deque(self._losses(change, steps, rate, done), maxlen=0)

    def best(
        self,
        fresh: Callable[[], Change],
        about: Callable[[Any], Mapping[str, Any]] = lambda _: {},
    ) -> Fitted:
        """Train fresh changes and return the best; among equals of the higher rate.

        Args:
            fresh: returns an untrained change.
            about: returns what else the row tells of the trained one.

        Raises:
            NothingToFixError: it is no better than the untouched model on the development split.
        """
        total = _prompts_of(self.steps) + _prompts_of(self.steps[: self.first])  # of two rates
        total += (len(self.epochs) + ("untouched" not in self.material.found)) * len(self.judges)
        with self.material.run.stage(self.name, self.title, total) as done:
            known = self.material.found.get("untouched")
            untouched = known or self._quality(None, done)
            self.material.found["untouched"] = untouched
            trial, tried = self._started(fresh, done)
            found, epoch, state = Quality(0.0, 0.0), 0, trial.change.copies()
            trained = self.first
            for number, steps in enumerate(self.epochs, start=1):
                deque(islice(trial.losses, len(steps) - trained), maxlen=0)
                trained = 0
                quality = self._quality(trial.change, done)
                if quality > found:
                    found, epoch, state = quality, number, trial.change.copies()
        check_better(self.title, found, untouched)
        trial.change.load_state_dict(state)
        trial.change.requires_grad_(False)
        chosen = {
            "learning rate": trial.rate,
            "epochs": epoch,
            "pairs": len(self.pairs),
            "steps": len(self.steps) + (tried - 1) * self.first,
        }
        return Fitted(
            on=trial.change.on,
            parameters=trial.change.numbers,
            chosen=chosen | found.as_chosen() | dict(about(trial.change)),
        )

    def _started(self, fresh: Callable[[], Change], done: Progress) -> tuple[_Trial, int]:
        """Train at falling rates for the first steps; return the best trial, and how many were."""
        tried, trying = 0, True

        def attempt(rate: float) -> _Trial:
            nonlocal tried
            tried += 1
            number = tried

            def shown(count: int) -> None:
                if number <= 2 or not trying:  # the progress knows of two rates
                    done(count)

            change = fresh()
            losses = self._losses(change, self.steps, rate, shown)
            return _Trial(rate, change, losses, late_loss(list(islice(losses, self.first))))

        best = best_attempt(RATES, attempt)
        trying = False
        return best, tried

    def _losses(
        self, change: Change, steps: Sequence[Sequence[SamplePair]], rate: float, done: Progress
    ) -> Iterator[float]:
        change.packs = self.packs
        return train(self.material, change, steps, rate, done, self.free)

    def _quality(self, change: Change | None, done: Progress) -> Quality:
        with change.on(self.material.model) if change else nullcontext():
            odds = odds_of(self.material.scores(self.judges))
        done(len(self.judges))
        return Quality.of(odds, self.judges)


def _prompts_of(steps: Sequence[Sequence[SamplePair]]) -> int:
    return 2 * sum(map(len, steps))


def _check_whole(model: PreTrainedModel) -> None:
    if any(type(weight) is not nn.Parameter for weight in model.parameters()):
        raise NasAlignError("Rivals are trained on whole weights; load the model unquantised.")
