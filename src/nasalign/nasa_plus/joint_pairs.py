"""What nasa+ learns from, and what is told of an epoch."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nasalign.nasa_plus.divergence import Answered
from nasalign.prompts.builder import BinaryPrompt


@dataclass(frozen=True)
class PromptPair:
    """A question with its right and with a wrong answer, and the kind of the pair."""

    right: BinaryPrompt
    wrong: BinaryPrompt
    kind: str


@dataclass(frozen=True)
class JointSamples:
    """The training data of nasa+.

    Attributes:
        tuning: pairs to train on.
        validation: held-back pairs of other subjects, which choose the epoch.
        free: answers of the untouched model, for the divergence term.
    """

    tuning: Sequence[PromptPair]
    validation: Sequence[PromptPair]
    free: Sequence[Answered] = ()


@dataclass(frozen=True)
class JointRecord:
    """The state after an epoch; epoch 0 is the untouched model.

    Attributes:
        epoch: number of epochs so far.
        loss: mean training loss of the epoch, NaN before the first.
        learning_rate: the highest of the schedule, NaN before the first epoch.
        validation: mean over kinds of the mean loss of the held-back pairs.
        accuracy: share of their prompts answered rightly, by kind.
        auc: area under the curve of their log odds, by kind.
        yes_rate: share of their prompts answered positively, by kind.
        kept: whether the validation loss is the least so far.
    """

    epoch: int
    loss: float
    learning_rate: float
    validation: float
    accuracy: dict[str, float]
    auc: dict[str, float]
    yes_rate: dict[str, float]
    kept: bool

    def as_row(self) -> dict[str, Any]:
        """Return a plain row of ``joint.jsonl``."""
        return {"record": "joint", **asdict(self)}


class Verdicts(NamedTuple):
    """Figures of some pairs."""

    accuracy: float
    auc: float  # of their log odds
    yes_rate: float


def verdicts(said: Tensor) -> Verdicts:
    """Return the figures of log probabilities [pairs, right and wrong, Yes and No]."""
    right, wrong = (said[..., 0] - said[..., 1]).unbind(dim=1)  # log odds, [pairs]
    above = (right[:, None] > wrong).double() + (right[:, None] == wrong) / 2
    accuracy = torch.cat([right > 0, wrong <= 0]).double().mean()
    yes_rate = torch.cat([right, wrong]).gt(0).double().mean()
    return Verdicts(float(accuracy), float(above.mean()), float(yes_rate))


def prompts_of(pairs: Sequence[PromptPair]) -> list[BinaryPrompt]:
    """Return the prompts of pairs, each right one followed by its wrong twin."""
    return [prompt for pair in pairs for prompt in (pair.right, pair.wrong)]
