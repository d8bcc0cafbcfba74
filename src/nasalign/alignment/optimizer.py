"""AdamW on rows alone, batch by batch, whatever the loss."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from transformers import get_cosine_schedule_with_warmup

from nasalign.alignment.rows import TunableRows
from nasalign.errors import ModelError
from nasalign.models import processes
from nasalign.nas.batches import halved


class RowOptimizer:
    """Steps rows down the gradient of a loss; one process or several see the same rows.

    AdamW without weight decay; its rate warms up over the first ``warmup_ratio`` of the steps and
    falls by a cosine to zero.

    Args:
        rows: the parameters.
        loss_of: returns the mean loss of some of the samples, by their places.
        learning_rate: the highest rate.
        warmup_ratio: see above.
        steps: that will be taken.
        part: samples whose gradient is computed at a time; less where memory does not hold it.
    """

    def __init__(
        self,
        rows: TunableRows,
        loss_of: Callable[[list[int]], Tensor],
        learning_rate: float,
        warmup_ratio: float,
        steps: int,
        part: int,
    ) -> None:
        self.rows, self.loss_of, self.part = rows, loss_of, part
        self.adam = torch.optim.AdamW(rows.parameters.values(), lr=learning_rate, weight_decay=0.0)
        self.schedule = get_cosine_schedule_with_warmup(
            self.adam, round(warmup_ratio * steps), steps
        )

    def step(self, places: list[int]) -> float:
        """Takes a step on a batch and returns its mean loss; none where that is not finite.

        Where memory does not hold the whole batch, its gradient is summed over parts.
        """
        losses: list[float] = []
        while halved(lambda: self._backward(places, losses), min(self.part, len(places))):
            self.part = (min(self.part, len(places)) + 1) // 2
        loss = self._over_processes(sum(losses))
        if math.isfinite(loss):
            self.adam.step()
            self.schedule.step()
        return loss

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

    def _backward(self, places: list[int], losses: list[float]) -> None:
        """Computes the gradient of a batch; ``losses`` takes each part's share of the loss."""
        self.adam.zero_grad(set_to_none=True)
        losses.clear()
        own = [place for place in places if processes.mine(place)]
        shares: list[Tensor] = []  # read at the end: a device would wait before each backward pass
        for start in range(0, len(own), self.part):
            part = own[start : start + self.part]
            loss = self.loss_of(part) * (len(part) / len(places))
            shares.append(loss.detach())
            loss.backward()
        losses.extend(float(share) for share in shares)
        rows = self.rows.parameters.values()
        if own and math.isfinite(sum(losses)) and any(row.grad is None for row in rows):
            raise ModelError(
                "No gradient reaches the rows: the kernels of this model's quantised weights have "
                "none on this device; take 8bit, or a dtype without quantisation."
            )
