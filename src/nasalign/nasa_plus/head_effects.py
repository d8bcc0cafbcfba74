"""What each head carries of what nasa+ has learnt, and what taking changes back does.

The change of each of N tuned heads is scaled by a gate of its own: at 0 it is taken back, at 1 it
is as tuned. What a head carries is how far its gate lowers the loss of held-back pairs, by the
derivative with all gates at one half: the midpoint rule for the integral of the gradient from the
untouched to the tuned model (integrated gradients; Sundararajan, Taly and Yan, 2017, "Axiomatic
attribution for deep networks"). The heads' effects so add up to about what the whole change does.
That is an estimate; so the changes of all but the heads of highest effect are taken back too, and
the held-back pairs asked.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from nasalign.nasa_plus.head_parts import Shares, head_shares
from nasalign.nasa_plus.joint_pairs import JointRecord
from nasalign.nasa_plus.joint_tuning import JointTuner

PARTS = (9, 3)
"""The changes of a ninth of the heads stay, then those of a third."""


@dataclass(frozen=True)
class HeadEffects:
    """What the tuned heads carry.

    Attributes:
        heads: ``layer``, ``head`` and ``effect`` of each, in the order of falling effect: by how
            much it lowers the loss of held-back pairs, by estimate.
        kept: what the held-back pairs say where only the changes of the heads of highest effect
            stay: ``heads`` is their number, followed by loss, accuracy and AUC. It begins with none
            and ends with all of them.
    """

    heads: Sequence[Mapping[str, float]]
    kept: Sequence[Mapping[str, float]]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for ``head_effects.json``."""
        return asdict(self)


def sizes_kept(count: int) -> list[int]:
    """Return of how many of N heads the changes stay where some are taken back."""
    return sorted({-(-count // part) for part in PARTS} - {count})


def head_effects(tuner: JointTuner, history: Sequence[JointRecord]) -> HeadEffects:
    """Measure what the tuned heads carry.

    Args:
        tuner: after ``tune``; its model is as tuned afterwards.
        history: what ``tune`` yielded, of which an epoch was kept.

    Returns:
        All figures are means over kinds of held-back pairs. The loss that effects are of is
        -log P(right word); the others are those of ``joint.jsonl``.
    """
    count = len(tuner.heads)
    shares = head_shares(tuner.model, tuner.heads, tuner.settings)
    gates = torch.full((count,), 0.5, dtype=torch.float64, requires_grad=True)
    effects = torch.zeros(count, dtype=torch.float64)
    kinds = tuner.kinds.values()
    weights = torch.zeros(len(tuner.validation), 2, dtype=torch.float64)  # [pairs, right and wrong]
    for mine in kinds:
        weights[mine] = 1 / (len(kinds) * 2 * len(mine))

    def back(said: Tensor, places: list[int]) -> None:
        words = torch.tensor(places) % 2  # the right prompts are even, the right word of them first
        right = said.gather(1, words.to(said.device)[:, None])[:, 0].double().cpu()
        total = (weights.flatten()[places] * right).sum()
        effects.add_(torch.autograd.grad(total, gates, retain_graph=True)[0])

    tuner.restore()
    try:
        with _gated(tuner, shares, gates):
            tuner.held_back(back)
        order = effects.argsort(descending=True).tolist()
        kept = {0: history[0], count: [one for one in history if one.kept][-1]}
        for size in sizes_kept(count):
            some = torch.zeros(count, dtype=torch.float64)
            some[order[:size]] = 1
            with _gated(tuner, shares, some):
                kept[size] = tuner.record_of(0, math.nan)
    finally:
        tuner.write()
    rows = [
        {"layer": tuner.heads[place].layer, "head": tuner.heads[place].head}
        | {"effect": float(effects[place])}
        for place in order
    ]
    return HeadEffects(rows, [_figures(size, kept[size]) for size in sorted(kept)])


def _figures(size: int, record: JointRecord) -> dict[str, float]:
    return {
        "heads": size,
        "loss": record.validation,
        "accuracy": fmean(record.accuracy.values()),
        "auc": fmean(record.auc.values()),
    }


@contextmanager
def _gated(tuner: JointTuner, shares: tuple[Shares, Shares], gates: Tensor) -> Iterator[None]:
    """The change with the part of each head scaled by its gate, [N]."""
    change = tuner.change
    whole, dtype = (change.outputs, change.inputs), next(change.parameters()).dtype
    scaled = ({name: (part @ gates).to(dtype) for name, part in one.items()} for one in shares)
    outputs, change.inputs = scaled
    change.outputs = {**change.outputs, **outputs}
    try:
        with change.on(tuner.model):
            yield
    finally:
        change.outputs, change.inputs = whole
