"""Evaluating a model on yes/no examples, and one evaluation against another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.config import Settings, load_preset
from nasalign.data.records import BinaryExample
from nasalign.errors import DataError
from nasalign.evaluation.metrics import (
    LEAN,
    METRICS,
    Array,
    Figure,
    bootstrap_weights,
    confidences,
    figures_of,
    from_lean_sums,
    interval,
    lean_sums,
    or_none,
    paired_changes,
    sample_sums,
)
from nasalign.evaluation.ranking import auc, log_odds
from nasalign.inference.scoring import Scores, score_as
from nasalign.io.files import check_rows
from nasalign.nas.heads import model_nas
from nasalign.progress import Progress
from nasalign.prompts.scenarios import in_scenario


@dataclass(frozen=True)
class Evaluation:
    """The verdicts of a model on N examples."""

    examples: Sequence[BinaryExample]
    scores: Scores

    @property
    def labels(self) -> list[bool]:
        """The right verdicts, True for the positive word."""
        return [example.known_label for example in self.examples]

    @property
    def clusters(self) -> list[str]:
        """What the bootstrap draws: the question of each example, or all that is shown with it.

        The latter is for data that ask the same about many contexts.
        """
        questions = [example.question for example in self.examples]
        shown = [example.shown for example in self.examples]
        return questions if len(set(shown)) == len(set(questions)) else shown

    def sums(self) -> Array:
        """Return each sample's part of the metrics' sums, [N, columns]."""
        scores = self.scores
        probabilities = scores.p_positive.tolist(), scores.p_negative.tolist()
        said = [confidences(*one) for one in zip(scores.verdicts, *probabilities, strict=True)]
        nas = model_nas(scores.nas).double().numpy()
        coverage = scores.coverage.double().numpy()
        return sample_sums(scores.verdicts, self.labels, said, nas, coverage)

    def metrics(self, bootstrap_samples: int = 2000, seed: int = 0) -> dict[str, Any]:
        """Return the metrics by name, ``n``, and ``intervals``: 95 %, bootstrapped by question.

        Where the prompts allow a third answer, ``unsure_rate`` is among them; where they do not
        name both answer words, ``nas`` is not. What is undefined is None (``figures_of``).
        """
        found = figures_of(self.sums(), self._weights(bootstrap_samples, seed))
        plain = {name: or_none(found[name]) for name in self._names}
        values: dict[str, Any] = {name: value for name, (value, _, _) in plain.items()}
        values |= {"n": len(self.examples)}
        values |= {"intervals": {name: (low, high) for name, (_, low, high) in plain.items()}}
        if self.scores.p_unsure is not None:
            lean = self.lean(bootstrap_samples, seed)
            values["unsure_rate"] = lean["unsure_rate"]
            values["intervals"]["unsure_rate"] = lean["intervals"]["unsure_rate"]
        return values

    def lean(self, bootstrap_samples: int = 2000, seed: int = 0) -> dict[str, Any]:
        """Return the figures ``metrics.LEAN`` by name, and their ``intervals`` as ``metrics``."""
        sums = lean_sums(self.scores.verdicts, self.labels)
        point = from_lean_sums(sums.sum(axis=0))
        spread = from_lean_sums(self._weights(bootstrap_samples, seed) @ sums)
        values: dict[str, Any] = {name: float(point[name]) for name in LEAN}
        return values | {"intervals": {name: interval(spread[name]) for name in LEAN}}

    def gap(self, bootstrap_samples: int = 2000, seed: int = 0) -> Figure:
        """Return precision minus recall, with the interval as of ``figures_of``."""
        return figures_of(self.sums(), self._weights(bootstrap_samples, seed))["gap"]

    def auc(self, bootstrap_samples: int = 2000, seed: int = 0) -> Figure | None:
        """Return the area under the curve of the log odds, with the interval as of ``metrics``.

        Bootstrap samples of one label alone are left out of the interval. None where all examples
        are of one label.
        """
        odds = log_odds(self.scores.p_positive, self.scores.p_negative)
        (point,) = auc(odds, self.labels, np.ones((1, len(self.labels))))
        spread = auc(odds, self.labels, self._weights(bootstrap_samples, seed))
        drawn = spread[~np.isnan(spread)]
        if np.isnan(point) or not len(drawn):
            return None
        return float(point), *interval(drawn)

    def change_to(
        self, after: "Evaluation", bootstrap_samples: int = 2000, seed: int = 0
    ) -> dict[str, Figure]:
        """Return each metric's change to another evaluation of the same examples.

        The interval is from a bootstrap paired by question (``metrics.paired_changes``).

        Raises:
            ValueError: the examples differ.
        """
        if list(self.examples) != list(after.examples):
            raise ValueError("the two evaluations are not of the same examples")
        weights = self._weights(bootstrap_samples, seed)
        found = paired_changes(self.sums(), after.sums(), weights)
        return {name: found[name] for name in self._names}

    @property
    def _names(self) -> list[str]:
        return [name for name in METRICS if name != "nas" or self.scores.nas.numel()]

    @classmethod
    def from_rows(
        cls,
        examples: Sequence[BinaryExample],
        rows: Sequence[dict[str, Any]],
        name: str = "an evaluation",
    ) -> "Evaluation":
        """Return the evaluation that rows of ``eval/*.jsonl`` describe; its NAS is the model's.

        Args:
            examples: those that were evaluated.
            rows: one for each example.
            name: of the data, for messages.

        Raises:
            NasAlignError: the rows are of other examples.
        """
        asked = [
            {
                "question": one.question,
                "answer": one.answer,
                "label": one.label,
                "negated": one.negated or None,
            }
            for one in examples
        ]
        check_rows(rows, asked, name)
        scores = Scores(
            torch.tensor([row["p_yes"] for row in rows]),
            torch.tensor([row["p_no"] for row in rows]),
            [row["verdict"] for row in rows],
            _nas_of(rows),
            p_unsure=torch.tensor([row["p_unsure"] for row in rows])
            if rows and "p_unsure" in rows[0]
            else None,
        )
        return cls(examples, scores)

    def of(self, indices: Sequence[int]) -> "Evaluation":
        """Return the evaluation of some of the examples."""
        scores, places = self.scores, list(indices)
        part = Scores(
            scores.p_positive[places],
            scores.p_negative[places],
            [scores.verdicts[place] for place in places],
            scores.nas[places],
            [scores.answers[place] for place in places] if scores.answers else None,
            scores.p_unsure[places] if scores.p_unsure is not None else None,
        )
        return Evaluation([self.examples[place] for place in places], part)

    def rows(self) -> list[dict[str, Any]]:
        """Return a plain row a sample, for ``eval/*.jsonl``."""
        nas, scores, clusters = model_nas(self.scores.nas), self.scores, self.clusters
        by_question = clusters == [example.question for example in self.examples]
        numbers = {name: place for place, name in enumerate(dict.fromkeys(clusters))}
        return [
            {
                **({"id": example.id} if example.id else {}),
                "question": example.question,
                **({} if by_question else {"cluster": numbers[clusters[index]]}),
                "answer": example.answer,
                **({"negated": True} if example.negated else {}),
                "label": example.label,
                "verdict": scores.verdicts[index],
                "p_yes": float(scores.p_positive[index]),
                "p_no": float(scores.p_negative[index]),
                **({} if scores.p_unsure is None else {"p_unsure": float(scores.p_unsure[index])}),
                "nas": float(nas[index]) if scores.nas.numel() else None,
                **({"generated": scores.answers[index]} if scores.answers else {}),
            }
            for index, example in enumerate(self.examples)
        ]

    def _weights(self, samples: int, seed: int) -> Array:
        return bootstrap_weights(self.clusters, samples, seed)


def _nas_of(rows: Sequence[dict[str, Any]]) -> Tensor:
    """Model NAS of rows of ``eval/*.jsonl``, as one head of one layer; of none, [N, 0, 0]."""
    if any(row["nas"] is None for row in rows):
        return torch.empty(len(rows), 0, 0)
    return torch.tensor([row["nas"] for row in rows], dtype=torch.float64)[:, None, None]


def run_evaluation(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[BinaryExample],
    settings: Settings,
    shots: Sequence[BinaryExample] = (),
    progress: Progress | None = None,
) -> Evaluation:
    """Score the examples with the prompts, the decoder and the batch size of the settings.

    Raises:
        DataError: there is no example, or the settings' scenario does not fit one.
        PromptError: an answer word is not found, or a prompt exceeds the model's context.
    """
    if not examples:
        raise DataError("There is no example to evaluate.")
    examples = in_scenario(examples, settings.scenario)
    scores = score_as(model, tokenizer, examples, settings, shots, progress=progress)
    return Evaluation(examples, scores)


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[BinaryExample],
    settings: Settings | None = None,
) -> dict[str, Any]:
    """Measure a model on labelled yes/no examples.

    Args:
        model: any causal model in memory; left as it was.
        tokenizer: its tokenizer.
        examples: yes/no examples, each with a label.
        settings: of the prompts, the decoder and the intervals; the preset ``fast`` unless
            given.

    Returns:
        the figures ``evaluation.metrics.METRICS`` and n by name;
        ``intervals`` holds the 95 % bootstrap interval of each.

    Raises:
        NasAlignError: an example or a setting does not fit the model.
    """
    chosen = settings or load_preset()
    evaluation = run_evaluation(model, tokenizer, examples, chosen)
    return evaluation.metrics(chosen.bootstrap_samples, chosen.seed)
