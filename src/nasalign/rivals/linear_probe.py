"""A linear probe as a judge: logistic regression on a hidden state (Alain and Bengio, 2017).

G. Alain and Y. Bengio, "Understanding intermediate layers using linear classifier probes", 2017. It
says how much of the answer the model holds, whatever it then says: the verdict is the probe's, read
off the residual stream before one layer at the prompt's last token.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nasalign.data.records import BinaryExample
from nasalign.errors import NothingToFixError
from nasalign.evaluation.evaluation import Evaluation
from nasalign.inference.batches import check_lengths
from nasalign.rivals.calibration import with_odds
from nasalign.rivals.observed import last_inputs, layer_names
from nasalign.rivals.rate_search import Quality, check_better, judges_of, training_pairs
from nasalign.rivals.rival import Fitted, Material, Rival, odds_of

LAYERS = 8
"""Layers that are tried at most, evenly from the first eighth of the depth to the last layer."""
PENALTIES = (0.001, 0.01, 0.1, 1.0)
"""Inverse strengths of the squared penalty that are tried, on standardised states."""
_TITLE = "A linear probe (Alain and Bengio, 2017)"


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """Log odds of a hidden state: its product with weights [hidden], float64, and an offset."""

    weights: Tensor
    offset: float

    def odds(self, states: Tensor) -> Tensor:
        """Return the log odds of states [N, hidden], [N] float64."""
        return states.double() @ self.weights + self.offset

    @classmethod
    def fit(cls, states: Tensor, labels: Sequence[bool], penalty: float) -> "LinearProbe":
        """Fit a probe to states [N, hidden] by scikit-learn.

        Args:
            states: hidden states of N examples.
            labels: their right verdicts, of both kinds.
            penalty: inverse strength of the squared penalty on the weights of standardised states.
        """
        from sklearn.linear_model import LogisticRegression  # takes a second

        states = states.double()
        mean, spread = states.mean(dim=0), states.std(dim=0, correction=0)
        spread = spread.where(spread > 0, 1.0)
        found = LogisticRegression(C=penalty, max_iter=1000)
        found.fit(((states - mean) / spread).numpy(), list(labels))
        weights = torch.from_numpy(found.coef_[0]).double() / spread
        return cls(weights, float(found.intercept_[0]) - float(mean @ weights))


def layers_tried(model: PreTrainedModel) -> list[int]:
    """Return the indices of the layers whose inputs are tried."""
    depth = len(layer_names(model))
    return sorted({round((depth - 1) * (place + 1) / LAYERS) for place in range(LAYERS)})


def states_of(
    material: Material, examples: Sequence[BinaryExample], layers: Sequence[int]
) -> list[Tensor]:
    """Return what enters each of some layers at the last token of N prompts, [N, hidden] each."""
    model, builder = material.model, material.builder()
    prompts = [builder.binary(example) for example in examples]
    check_lengths(model, prompts)
    names = [layer_names(model)[layer] for layer in layers]
    return last_inputs(model, prompts, names, material.settings.batch_size)


def _fit(material: Material) -> Fitted:
    """Choose layer and penalty on the development split; among equals the first of each."""
    examples = [example for pair in training_pairs(material) for example in pair]
    if not examples:
        raise NothingToFixError("There is no sample to train a linear probe on; probe more.")
    judges, layers = judges_of(material), layers_tried(material.model)
    total = len(layers) * len(PENALTIES)
    found: list[tuple[Quality, int, float, LinearProbe]] = []
    with material.run.stage("probe", "Fitting linear probes", total) as done:
        known = states_of(material, examples, layers)
        asked = states_of(material, judges, layers)
        labels = [example.known_label for example in examples]
        for layer, learnt, judged in zip(layers, known, asked, strict=True):
            for penalty in PENALTIES:
                probe = LinearProbe.fit(learnt, labels, penalty)
                quality = Quality.of(probe.odds(judged), judges)
                found.append((quality, layer, penalty, probe))
                done(1)
    quality, layer, penalty, probe = max(found, key=lambda one: one[0])  # the first of equals
    check_better(_TITLE, quality, Quality.of(odds_of(material.scores(judges)), judges))

    def adjusted(evaluation: Evaluation) -> Evaluation:
        (states,) = states_of(material, evaluation.examples, [layer])
        return with_odds(evaluation, probe.odds(states))

    return Fitted(
        adjusted=adjusted,
        parameters=probe.weights.numel() + 1,
        chosen={"layer": layer, "penalty": penalty, "pairs": len(examples) // 2}
        | quality.as_chosen(),
    )


PROBE = Rival(
    "probe",
    "linear probe (Alain and Bengio, 2017)",
    "the hidden state of one layer at the prompt's last token",
    False,
    _fit,
)
