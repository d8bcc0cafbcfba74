"""A model for Algorithm 1 that is no model: what each epoch does to it is written down."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nasalign.nas.heads import Head
from nasalign.nasa.algorithm import Measurement

START = 10.0  # alpha of every head and beta before anything is tuned


@dataclass(frozen=True)
class Epoch:
    """What an epoch returns, and what V says after it."""

    alpha: float
    beta: float
    yes: float = 0.0
    loss: float = 1.0


State = tuple[dict[tuple[int, int], float], float, float]


class Script:
    """A model whose epochs are written down for each head; it notes every call."""

    def __init__(self, series: dict[Head, list[Epoch]], start: float = START) -> None:
        self.series = {head[:2]: epochs for head, epochs in series.items()}
        self.state: State = (dict.fromkeys(self.series, start), start, 0.0)
        self.done = dict.fromkeys(self.series, 0)
        self.calls: list[str] = []
        self.begun: tuple[tuple[int, int], State] | None = None
        self.way = (self.state, self.state)  # of the last epoch

    def measure(self) -> Measurement:
        self.calls.append("measure")
        alphas, beta, yes = self.state
        nas = torch.zeros(2, 2, dtype=torch.float64)
        for head, alpha in alphas.items():
            nas[head] = alpha
        nas[1, 1] = beta - nas.sum()  # a head that is never tuned makes up the rest
        return Measurement(nas, yes)

    def begin(self, head: Head) -> None:
        assert self.begun is None, "the head before is not finished"
        self.calls.append(f"begin {head.layer}.{head.head}")
        self.begun = head[:2], self.state

    def train_epoch(self) -> float:
        assert self.begun is not None
        self.calls.append("epoch")
        return self.tune(self.begun[0])

    def tune(self, head: tuple[int, int]) -> float:
        epoch = self.series[head][self.done[head]]
        self.done[head] += 1
        start, self.state = self.state, (self.state[0] | {head: epoch.alpha}, epoch.beta, epoch.yes)
        self.way = start, self.state
        return epoch.loss

    def scale(self, share: float) -> None:
        """All that V says is linear along the way of an epoch."""
        self.calls.append(f"scale {share:g}")
        start, end = self.way
        alphas = {head: _between(start[0][head], end[0][head], share) for head in end[0]}
        numbers = [_between(*ends, share) for ends in zip(start[1:], end[1:], strict=True)]
        self.state = (alphas, *numbers)

    def restore(self) -> None:
        assert self.begun is not None
        self.calls.append("restore")
        self.state = self.begun[1]

    def finish(self) -> None:
        self.calls.append("finish")
        self.begun = None


def _between(start: float, end: float, share: float) -> float:
    return start + share * (end - start)
