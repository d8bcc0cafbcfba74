"""AdamW on the weights that change a model, for any loss."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, get_cosine_schedule_with_warmup

from nasalign.errors import ModelError
from nasalign.inference.batches import halved
from nasalign.models import processes
from nasalign.models.memory import explained


class RowOptimizer:
    """AdamW without weight decay; the rate warms up linearly, then decays by a cosine to zero.

    With several processes, their gradients are summed, so that all hold the same weights.

    ``rates`` are the highest learning rates, one for each of the ``weights``. ``losses_of`` yields
    each part's share of the mean loss of a batch, from the parts, each a list of sample indices,
    and the number of samples of the whole batch. The rate rises for ``warmup`` of the ``steps``.
    ``part`` samples are in a backward pass, halved where memory runs out; ``longest`` is the tokens
    of the longest sample. A gradient of a norm above ``most`` is scaled down to it.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        weights: Sequence[nn.Parameter],
        losses_of: Callable[[Sequence[list[int]], int], Iterator[Tensor]],
        rates: Sequence[float],
        warmup: int,
        steps: int,
        part: int,
        longest: int,
        betas: tuple[float, float] = (0.9, 0.999),
        most: float = math.inf,
    ) -> None:
        self.model, self.weights, self.most = model, list(weights), most
        self.losses_of, self.part, self.longest = losses_of, part, longest
        groups = [
            {"params": [one], "lr": rate} for one, rate in zip(self.weights, rates, strict=True)
        ]
        self.adam = torch.optim.AdamW(groups, betas=betas, weight_decay=0.0)
        self.schedule = get_cosine_schedule_with_warmup(self.adam, warmup, steps)

    def step(self, places: list[int]) -> float:
        """Take a step on a batch and return its mean loss; no step if that is not finite."""
        losses: list[float] = []
        own = [place for place in places if processes.mine(place)]
        # Each process halves on its own; they synchronise when all have their gradients.
        with explained("tuning", self.model, self.longest, ["--set replay_gib=0"]):
            while halved(partial(self._backward, own, len(places), losses), self._size(own)):
                self.part = (self._size(own) + 1) // 2
            loss = self._over_processes(sum(losses))
            if math.isfinite(loss):
                if math.isfinite(self.most):
                    nn.utils.clip_grad_norm_(self.weights, self.most)
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
        for parameter in self.weights:
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
        if own and math.isfinite(sum(losses)) and any(one.grad is None for one in self.weights):
            raise ModelError(
                "No gradient reaches the rows: the kernels of this model's quantised weights have "
                "none on this device; take 8bit, or a dtype without quantisation."
            )
