"""What a rival is: a way to a better model, what it may be fitted on, and what fitting leaves."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.config import Settings
from nasalign.data.records import BinaryExample, Question
from nasalign.evaluation.evaluation import Evaluation
from nasalign.evaluation.ranking import log_odds
from nasalign.inference.scoring import Scores, score_as
from nasalign.nasa.probing import ProbingSet
from nasalign.prompts.builder import PromptBuilder
from nasalign.run import Run


@dataclass(frozen=True)
class Material:
    """What every rival is fitted on; no subject of it is in the test split.

    Attributes:
        model: the untouched model, whose parameters do not require gradients; whoever changes it
            puts it back, to the bit.
        tokenizer: its tokenizer.
        settings: of the comparison.
        run: whom to tell; its folder is the rival's own.
        asked: the questions that were probed.
        probing: what the model knows, under Prompt I with the right answer (Section 4.1).
        same: the fine-tuning set D of the paper's method: known answers, all to be affirmed.
        pairs: the questions of D, each with its right and a wrong answer.
        development: right and wrong answers about the subjects of the development split.
        shots: examples with their answers, right and wrong in turn, of the probed questions.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    settings: Settings
    run: Run
    asked: Sequence[Question]
    probing: ProbingSet
    same: Sequence[BinaryExample]
    pairs: Sequence[BinaryExample]
    development: Sequence[BinaryExample]
    shots: Sequence[BinaryExample]

    def builder(self, shots: Sequence[BinaryExample] = ()) -> PromptBuilder:
        """Returns what renders prompts as the settings say."""
        return PromptBuilder.of(self.tokenizer, self.settings, shots)

    def scores(self, examples: Sequence[BinaryExample]) -> Scores:
        """Scores examples with the model as it is now, by logits and without NAS."""
        own = replace(self.settings, decoder="logits", scenario="plain")
        return score_as(self.model, self.tokenizer, examples, own, record=False)


@dataclass(frozen=True)
class Fitted:
    """What fitting a rival leaves.

    Attributes:
        on: applies it to the model that it was fitted on and takes it off again, to the bit.
        changes: settings that are other when it is served, such as the instruction.
        shots: examples that are shown before each question.
        adjusted: returns an evaluation with other probabilities and verdicts; None where the
            rival leaves them as the model gives them. It may score with the model again.
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
    """A row of the comparison.

    Attributes:
        name: short, as ``--only`` takes it and files are called.
        title: as the table shows it, with where it is from.
        serving: what it needs when the model is served, beside the weights.
        logits: whether it needs the probabilities of the answer words.
        fit: fits it; leaves the model as it was.
    """

    name: str
    title: str
    serving: str
    logits: bool
    fit: Callable[[Material], Fitted]


def odds_of(scores: Scores) -> Tensor:
    """Returns log P(positive word) - log P(negative word) of N scores, [N] float64."""
    return torch.from_numpy(log_odds(scores.p_positive, scores.p_negative))


def balanced_accuracy(odds: Tensor, examples: Sequence[BinaryExample]) -> float:
    """Returns the mean of both labels' shares of right answers at log odds [N] above 0."""
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
