"""Masking of biased attention heads and feed-forward vectors (UniBias, Zhou et al., NeurIPS 2024).

Written from the description. From the paper:

* Components are the vectors v of a feed-forward network (a column of its output projection, added
  with the activation m as its coefficient) and each head's part of the attention's output, both at
  the prompt's last token and projected onto the label words by the output embedding (logit lens).
* Three criteria over the samples of a support set: relatedness (it says much about the labels),
  bias (it favours one label) and low variance (it does so for every sample, by the coefficient of
  variation; for a vector that is its activation's).
* Components that meet all three are masked, heads and vectors. The thresholds are found by grid
  search for the least biased label probabilities on the support set, of 20 samples a label, among
  those that leave the labels nine tenths of their probability.

Ours:

* The gain of the final norm is part of the lens.
* The criteria for two labels: with label logits (a, b) of a sample, relatedness is the mean of
  |a| + |b|, bias the mean of (a - b) / (|a| + |b|), and variation that of a - b.
* Only components that favour the label that the model leans to are masked: masking those of the
  other label would undo on one side what was won on the other.
* Logits have another scale in each model, so relatedness is not thresholded; the most related
  components are masked, up to a share of all.
* The grid has 6 points for heads and then 6 for vectors, beside masking none; the threshold of
  variation is always 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nasalign.data.records import BinaryExample
from nasalign.errors import NasAlignError
from nasalign.models.geometry import HeadGeometry, text_model
from nasalign.progress import Progress
from nasalign.rivals.masking import Columns, masked, projections
from nasalign.rivals.observed import answer_pair, last_inputs, some_of_each
from nasalign.rivals.rival import Fitted, Material, Rival, balanced_accuracy, odds_of

SUPPORT = 40
"""Maximum number of development examples that criteria and thresholds are measured on."""
KEPT_MASS = 0.9
"""Share of the labels' probability that must remain."""
BIASES = (0.1, 0.4)
"""Thresholds of bias in the grid."""
VARIATION = 1.0
"""Threshold of the coefficient of variation."""
SHARES = {"heads": (0.01, 0.03, 0.1), "vectors": (0.0001, 0.0003, 0.001)}
"""Maximum shares of all heads and of all vectors of the model that are masked, in the grid."""


@dataclass(frozen=True, eq=False)
class Components:
    """C heads or feed-forward vectors, and what they say about the labels.

    Attributes:
        columns: for each its module and the first and last (exclusive) of its columns there.
        logits: label logits of N samples, positive and negative, float32 [C, N, 2].
    """

    columns: list[tuple[str, int, int]]
    logits: Tensor

    def biased(self, favoured: float, bias: float, variation: float, count: int) -> list[int]:
        """Return the indices of the most related components that meet the other criteria.

        Args:
            favoured: 1 for components that favour the positive label, -1 for the negative one.
            bias: lower bound of the bias (exclusive), in [0, 1).
            variation: upper bound of the coefficient of variation (exclusive).
            count: maximum number of components.
        """
        size = self.logits.abs().sum(dim=-1)  # [C, N]
        lead = favoured * (self.logits[..., 0] - self.logits[..., 1])
        share = (lead / size.clamp(min=1e-30)).mean(dim=1)
        steady = lead.std(dim=1) < variation * lead.mean(dim=1)  # false if the mean is negative
        related = size.mean(dim=1).masked_fill(~(steady & (share > bias)), -1.0)
        order = related.argsort(descending=True, stable=True)[:count].tolist()
        return [place for place in order if related[place] > 0]

    def of(self, chosen: Sequence[int]) -> dict[str, list[int]]:
        """Return the columns of some of the components, by module."""
        found: dict[str, list[int]] = {}
        for name, start, stop in (self.columns[place] for place in chosen):
            found.setdefault(name, []).extend(range(start, stop))
        return found


@torch.no_grad()
def components(
    model: PreTrainedModel, labels: tuple[int, int], states: Mapping[str, Tensor]
) -> dict[str, Components]:
    """Return the ``heads`` and the ``vectors`` of a model.

    Args:
        model: the model.
        labels: token ids of the positive and the negative word.
        states: what enters each module of ``projections`` at the last token of N samples.
    """
    directions = _directions(model, labels)  # [2, hidden]
    counts = [own.heads for own in HeadGeometry.of(model).attention if own]
    found: dict[str, Components] = {}
    names = zip(*projections(model), strict=True)
    for kind, modules in zip(("heads", "vectors"), names, strict=True):
        columns, logits = [], []
        for name, heads in zip(modules, counts, strict=True):
            seen = directions @ model.get_submodule(name).weight.cpu().float()  # [2, width]
            size = seen.shape[1] // heads if kind == "heads" else 1
            parts = states[name][:, None].to(seen.dtype) * seen  # [N, 2, width]
            logits.append(parts.unflatten(-1, (-1, size)).sum(dim=-1).permute(2, 0, 1))
            columns += [(name, start, start + size) for start in range(0, seen.shape[1], size)]
        found[kind] = Components(columns, torch.cat(logits))
    return found


def _directions(model: PreTrainedModel, labels: tuple[int, int]) -> Tensor:
    """The output embeddings of the labels times the gain of the final norm, [2, hidden]."""
    rows = model.get_output_embeddings().weight[list(labels)]
    text = text_model(model)[1]
    norm = getattr(text, "norm", None) or getattr(text, "final_layer_norm", None)
    if norm is not None:
        # The gain is read off the norm's output, since architectures store it differently (Gemma
        # as 1 + weight). An input of +1 and -1 in turn has mean 0 and root mean square 1, which
        # both kinds of norm leave as it is; the difference of both signs removes a bias.
        signs = torch.ones(rows.shape[1], device=rows.device, dtype=rows.dtype)
        signs[1::2] = -1.0
        rows = rows * ((norm(signs) - norm(-signs)) / 2 * signs)
    return rows.cpu().float()


@dataclass(frozen=True, eq=False)
class _Point:
    """A point of the grid: what is masked, and what the model then says of the support set."""

    chosen: Mapping[str, Sequence[int]]  # indices of the masked components by kind
    columns: Columns  # of these
    positive: float  # mean probability of the positive word among the two
    mass: float  # mean probability of both words together
    accuracy: float  # balanced; reported, but not chosen by

    @property
    def imbalance(self) -> float:
        """Distance of the labels' mean probabilities from being equal."""
        return abs(self.positive - 0.5)


def _measured(
    material: Material,
    support: Sequence[BinaryExample],
    found: Mapping[str, Components],
    chosen: Mapping[str, Sequence[int]],
) -> _Point:
    columns: dict[str, list[int]] = {}
    for kind, own in chosen.items():
        columns |= found[kind].of(own)  # heads and vectors are of different modules
    with masked(material.model, columns):
        scores = material.scores(support)
    odds = odds_of(scores)
    mass = float((scores.p_positive + scores.p_negative).mean())
    positive = float(odds.sigmoid().mean())
    return _Point(chosen, columns, positive, mass, balanced_accuracy(odds, support))


def _searched(
    material: Material,
    support: Sequence[BinaryExample],
    found: Mapping[str, Components],
    done: Progress,
) -> _Point:
    """Searches the grid of heads, then that of vectors with the best heads masked."""
    untouched = best = _measured(material, support, found, {})
    favoured = 1.0 if untouched.positive > 0.5 else -1.0
    for kind, shares in SHARES.items():
        base, known = best, set[tuple[int, ...]]()
        for bias, share in product(BIASES, shares):
            count = max(1, round(share * len(found[kind].columns)))
            chosen = found[kind].biased(favoured, bias, VARIATION, count)
            if chosen and tuple(chosen) not in known:
                known.add(tuple(chosen))
                point = _measured(material, support, found, {**base.chosen, kind: chosen})
                if point.mass >= KEPT_MASS * untouched.mass and point.imbalance < best.imbalance:
                    best = point
            done(len(support))
    return best


def _fit(material: Material) -> Fitted:
    """Mask the heads and vectors with which the label probabilities are least biased."""
    model, builder, settings = material.model, material.builder(), material.settings
    names = [name for pair in projections(model) for name in pair]
    support = some_of_each(material.development, SUPPORT, f"{settings.seed}/unibias")
    if not support:
        raise NasAlignError("There is no example to find biased heads on; give more questions.")
    prompts = [builder.binary(example) for example in support]
    states = last_inputs(model, prompts, names, settings.batch_size)
    labels = answer_pair(material.session.tokenizer, prompts[0], builder.words)
    found = components(model, labels, dict(zip(names, states, strict=True)))
    total = len(BIASES) * sum(map(len, SHARES.values())) * len(support)
    with material.run.stage("unibias", "Choosing what to mask", total) as done:
        best = _searched(material, support, found, done)
    counts = {kind: len(best.chosen.get(kind, ())) for kind in SHARES}
    return Fitted(
        on=lambda served: masked(served, best.columns),
        parameters=sum(counts.values()),
        chosen={**counts, "mean probability": best.positive, "balanced accuracy": best.accuracy},
    )


UNIBIAS = Rival(
    "unibias",
    "biased heads and vectors masked (UniBias, Zhou et al., 2024)",
    "columns of output projections set to 0",
    False,
    _fit,
)
