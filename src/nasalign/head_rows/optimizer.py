"""AdamW on rows alone, batch by batch, whatever the loss."""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from transformers import get_cosine_schedule_with_warmup

from nasalign.errors import ModelError
from nasalign.head_rows.rows import TunableRows
from nasalign.inference.batches import halved
from nasalign.models import processes
from nasalign.models.memory import explained


class RowOptimizer:
    """Steps rows down the gradient of a loss; one process or several see the same rows.

    AdamW without weight decay; its rate warms up over the first ``warmup_ratio`` of the steps and
    falls by a cosine to zero.

    Args:
        rows: the parameters.
        losses_of: is given parts of a batch, each the places of samples, and the number of samples
            of the whole batch; yields each part's share of its mean loss.
        learning_rate: the highest rate.
        warmup_ratio: see above.
        steps: that will be taken.
        part: samples whose gradient is computed at a time; less where memory does not hold it.
        longest: tokens of the longest sample.
    """

    def __init__(
        self,
        rows: TunableRows,
        losses_of: Callable[[Sequence[list[int]], int], Iterator[Tensor]],
        learning_rate: float,
        warmup_ratio: float,
        steps: int,
        part: int,
        longest: int,
    ) -> None:
        self.rows, self.losses_of, self.part, self.longest = rows, losses_of, part, longest
        self.adam = torch.optim.AdamW(rows.parameters.values(), lr=learning_rate, weight_decay=0.0)
        self.schedule = get_cosine_schedule_with_warmup(
            self.adam, round(warmup_ratio * steps), steps
        )

    def step(self, places: list[int]) -> float:
        """Takes a step on a batch and returns its mean loss; none where that is not finite.

        Where memory does not hold the whole batch, its gradient is summed over parts.

        Raises:
            OutOfMemoryError: memory does not hold the gradient of a single sample.
        """
        losses: list[float] = []
        own = [place for place in places if processes.mine(place)]
        # Processes halve each for itself, and meet only when all have their gradients.
        with explained("tuning", self.rows.model, self.longest, ["--set replay_gib=0"]):
            while halved(lambda: self._backward(own, len(places), losses), self._size(own)):
                self.part = (self._size(own) + 1) // 2
            loss = self._over_processes(sum(losses))
            if math.isfinite(loss):
                self.adam.step()
                self.schedule.step()
        return loss

    def _size(self, own: Sequence[int]) -> int:
        return min(self.part, len(own))

    def _over_processes(self, loss: float) -> float:
        """Adds the gradients and the loss of all processes up; returns that loss."""
        if processes.shares() == 1:
            return loss
        total = torch.tensor(loss, dtype=torch.float64)
        for parameter in self.rows.parameters.values():
            if parameter.grad is None:  # no sample of the batch is for this process
                parameter.grad = torch.zeros_like(parameter)
            processes.add_up(parameter.grad)
        processes.add_up(total)
        return float(total)

    def _backward(self, own: list[int], count: int, losses: list[float]) -> None:
        """Computes the gradient of this process's samples of a batch of ``count``.

        ``losses`` takes each part's share of the loss.
        """
        self.adam.zero_grad(set_to_none=True)
        losses.clear()
        parts = [own[start : start + self.part] for start in range(0, len(own), self.part)]
        shares: list[Tensor] = []  # read at the end: a device would wait before each backward pass
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
