"""A rival: a way to a better model, what it may be fitted on, and what fitting returns."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nasalign.config import Settings
from nasalign.data.records import BinaryExample
from nasalign.evaluation.evaluation import Evaluation
from nasalign.evaluation.ranking import log_odds
from nasalign.inference.scoring import Scores, score_as
from nasalign.nasa.knowledge import Parametric
from nasalign.nasa.probing import ProbingSet
from nasalign.prompts.builder import PromptBuilder
from nasalign.run import Run
from nasalign.session import Session


@dataclass(frozen=True)
class Material:
    """What every rival is fitted on; no subject of it is in the test split.

    The parameters of the model do not require gradients. Whoever changes the model restores it, to
    the bit.
    """

    session: Session  # the untouched model, and a run of this rival alone
    asked: Sequence[Parametric]  # what was probed
    probing: ProbingSet  # what the model knows, under Prompt I with the right answer (Section 4.1)
    pairs: Sequence[BinaryExample]  # the questions of the paper's D, with right and wrong answers
    development: Sequence[BinaryExample]  # right and wrong answers, of the development split
    shots: Sequence[BinaryExample]  # of questions that are held out for it
    found: dict[str, Any] = field(default_factory=dict)  # by one rival, of use to the next

    @property
    def model(self) -> PreTrainedModel:
        """The untouched model."""
        return self.session.model

    @property
    def settings(self) -> Settings:
        """The settings of the comparison."""
        return self.session.settings

    @property
    def run(self) -> Run:
        """The rival's own run."""
        return self.session.run

    def builder(self, shots: Sequence[BinaryExample] = ()) -> PromptBuilder:
        """Return the renderer of prompts by the settings."""
        return self.session.builder(shots)

    def scores(self, examples: Sequence[BinaryExample]) -> Scores:
        """Score examples with the model as it is at the moment, by logits and without NAS."""
        own = replace(self.settings, decoder="logits", scenario="plain")
        return score_as(self.model, self.session.tokenizer, examples, own, record=False)


@dataclass(frozen=True)
class Fitted:
    """What fitting a rival returns.

    Attributes:
        on: applies it to the model that it was fitted on, and restores the model to the bit.
        changes: settings that differ when it is served, such as the instruction.
        shots: examples that are shown before each question.
        adjusted: returns an evaluation with other probabilities and verdicts; None if those of the
            model stand. It may score with the model again.
        parameters: number of trained or fitted numbers.
        chosen: what was chosen on the development split, by name.
    """

    on: Callable[[PreTrainedModel], AbstractContextManager[Any]] = nullcontext
    changes: Mapping[str, Any] = field(default_factory=dict)
    shots: Sequence[BinaryExample] = ()
    adjusted: Callable[[Evaluation], Evaluation] | None = None
    parameters: int = 0
    chosen: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rival:
    """A row of the comparison."""

    name: str  # as ``--only`` takes it and files are called
    title: str  # as the table shows it, with its source
    serving: str  # what it needs when the model is served, beside the weights
    logits: bool  # whether it needs the probabilities of the answer words
    fit: Callable[[Material], Fitted]  # leaves the model as it was
    asked_for: bool = False  # whether it is made only where it is named


def odds_of(scores: Scores) -> Tensor:
    """Return log P(positive word) - log P(negative word) of N scores, [N] float64."""
    return torch.from_numpy(log_odds(scores.p_positive, scores.p_negative))


def balanced_accuracy(odds: Tensor, examples: Sequence[BinaryExample]) -> float:
    """Return the mean over both labels of the share of right verdicts, by the sign of odds [N]."""
    shares = []
    for label in (True, False):
        said = [
            value > 0
            for value, one in zip(odds.tolist(), examples, strict=True)
            if one.label == label
        ]
        if said:
            shares.append(sum(yes == label for yes in said) / len(said))
    return sum(shares) / len(shares)
