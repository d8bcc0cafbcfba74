"""AdamW on rows of weights, for any loss."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor
from transformers import get_cosine_schedule_with_warmup

from nasalign.errors import ModelError
from nasalign.head_rows.rows import TunableRows
from nasalign.inference.batches import halved
from nasalign.models import processes
from nasalign.models.memory import explained


class RowOptimizer:
    """AdamW without weight decay; the rate warms up linearly, then decays by a cosine to zero.

    With several processes, their gradients are summed, so that all hold the same rows.

    ``rates`` are the highest learning rates, one for the rows of each slice. ``losses_of`` yields
    each part's share of the mean loss of a batch, from the parts, each a list of sample indices,
    and the number of samples of the whole batch. ``part`` samples are in a backward pass, halved
    where memory runs out; ``longest`` is the tokens of the longest sample.
    """

    def __init__(
        self,
        rows: TunableRows,
        losses_of: Callable[[Sequence[list[int]], int], Iterator[Tensor]],
        rates: Sequence[float],
        warmup_ratio: float,
        steps: int,
        part: int,
        longest: int,
    ) -> None:
        self.rows, self.losses_of, self.part, self.longest = rows, losses_of, part, longest
        parameters = zip(rows.parameters.values(), rates, strict=True)
        groups = [{"params": [one], "lr": rate} for one, rate in parameters]
        self.adam = torch.optim.AdamW(groups, weight_decay=0.0)
        self.schedule = get_cosine_schedule_with_warmup(
            self.adam, round(warmup_ratio * steps), steps
        )

    def step(self, places: list[int]) -> float:
        """Take a step on a batch and return its mean loss; no step if that is not finite."""
        losses: list[float] = []
        own = [place for place in places if processes.mine(place)]
        # Each process halves on its own; they synchronise when all have their gradients.
        with explained("tuning", self.rows.model, self.longest, ["--set replay_gib=0"]):
            while halved(partial(self._backward, own, len(places), losses), self._size(own)):
                self.part = (self._size(own) + 1) // 2
            loss = self._over_processes(sum(losses))
            if math.isfinite(loss):
                self.adam.step()
                self.schedule.step()
        return loss

    def _size(self, own: Sequence[int]) -> int:
        return min(self.part, len(own))

    def _over_processes(self, loss: float) -> float:
        """Sum the gradients and the loss over all processes; return the loss."""
        if processes.shares() == 1:
            return loss
        total = torch.tensor(loss, dtype=torch.float64)
        for parameter in self.rows.parameters.values():
            if parameter.grad is None:  # this process has no sample of the batch
                parameter.grad = torch.zeros_like(parameter)
            processes.add_up(parameter.grad)
        processes.add_up(total)
        return float(total)

    def _backward(self, own: list[int], count: int, losses: list[float]) -> None:
        """Compute the gradient of this process's samples of a batch; fill ``losses``."""
        self.adam.zero_grad(set_to_none=True)
        losses.clear()
        parts = [own[start : start + self.part] for start in range(0, len(own), self.part)]
        shares: list[Tensor] = []  # read at the end: reading one waits for the device
        for loss in self.losses_of(parts, count):
            shares.append(loss.detach())
            loss.backward()
        losses.extend(float(share) for share in shares)
        rows = self.rows.parameters.values()
        if own and math.isfinite(sum(losses)) and any(row.grad is None for row in rows):
            raise ModelError(
                "No gradient reaches the rows: the kernels of this model's quantised weights have "
                "none on this device; take 8bit, or a dtype without quantisation."
            )
