"""Pre-softmax attention scores of some rows and columns, and the logsumexp of whole rows.

Dimensions as in ``recorder``: B batch, H query heads, G key heads, R rows, K keys, D head size.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

BLOCK_ENTRIES = 2**24
"""Scores held at once while the logsumexp is taken (64 MiB in float32)."""


class KernelLogsumexp(TorchDispatchMode):
    """Keeps the logsumexp that a fused attention kernel returns; a context manager.

    ``scaled_dot_product_attention`` returns the output alone and drops the logsumexp, which each
    fused kernel computes for its backward pass. A dispatch mode sees the kernel's own call, below
    that function, and reads it there: no row of scores is computed a second time, and the output
    stays the kernel's, to the bit. Kernels that compute it only on demand (memory-efficient and
    cuDNN attention on CUDA) are asked for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._value: Tensor | None = None

    def of(self, query: Tensor) -> Tensor | None:
        """Return the logsumexp [B, H, Tq] for queries [B, H, Tq, D]; None if no kernel gave it."""
        if self._value is None:
            return None
        # PyTorch may run a single query row as [B, G, H/G, D], the heads of a group as its rows.
        return self._value.reshape(query.shape[:3])

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        place = _ON_DEMAND.get(func)
        if place is not None:
            args = (*args[:place], True, *args[place + 1 :])
        output = func(*args, **kwargs)
        if func in _KERNELS:
            batch, heads, rows = args[0].shape[:3]
            # Some kernels pad the rows, others give the logsumexp a last dimension of 1.
            self._value = output[1].reshape(batch, heads, -1)[:, :, :rows]
        return output


_aten = torch.ops.aten
_ON_DEMAND = {  # kernel -> index of its argument ``compute_log_sumexp``
    _aten._scaled_dot_product_efficient_attention.default: 4,
    _aten._scaled_dot_product_cudnn_attention.default: 4,
}
_KERNELS = {
    _aten._scaled_dot_product_flash_attention_for_cpu.default,
    _aten._scaled_dot_product_flash_attention.default,
    *_ON_DEMAND,
}


def gather_keys(key: Tensor, columns: Tensor) -> Tensor:
    """Return the keys [B, G, 2, D] at two columns [B, 2] of all keys [B, G, K, D]."""
    batch, groups, _, size = key.shape
    return key.gather(2, columns[:, None, :, None].expand(batch, groups, 2, size))


def attended(mask: Tensor | None, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Whether rows at positions [R] attend to each of two columns [B, 2], as [B, 1 or H, R, 2].

    The mask is None (causal), boolean (True attends) or additive, [B, 1 or H, R, K].

    Returns:
        Whether they do, and what the mask adds to the scores where they do.
    """
    if mask is None:
        there = (columns[:, None, :] <= rows[None, :, None])[:, None]
        return there, torch.zeros_like(there, dtype=torch.float32)
    mask = mask.expand(len(columns), -1, -1, -1)
    there = mask.gather(3, columns[:, None, None, :].expand(*mask.shape[:3], 2))
    if there.dtype == torch.bool:
        return there, torch.zeros_like(there, dtype=torch.float32)
    open_ = there > torch.finfo(there.dtype).min / 2
    return open_, torch.where(open_, there, 0)


def with_bias(mask: Tensor | None, bias: Tensor, rows: Tensor) -> Tensor:
    """Return a position bias [B, H, R, K] with a mask as an additive mask; both as ``attended``."""
    closed = torch.finfo(bias.dtype).min
    if mask is None:
        keys = torch.arange(bias.shape[-1], device=bias.device)
        mask = (keys <= rows[:, None])[None, None]
    if mask.dtype == torch.bool:
        return torch.where(mask, bias, closed)
    return torch.where(mask > torch.finfo(mask.dtype).min / 2, bias + mask, closed)


def picked(mask: Tensor | None, keys: Tensor | None) -> Tensor | None:
    """Return a mask [B, 1, T, K] that is closed but at the keys [B, T, N] that each row picks.

    Of sparse attention (DeepSeek V3.2, GLM-5), the modeling file does so itself for the functions
    of transformers, and gives others the keys.
    """
    if keys is None or mask is None:
        return mask
    closed = torch.ones(mask.shape, dtype=torch.bool, device=mask.device)
    closed = closed.scatter(-1, keys.long()[:, None].expand(*mask.shape[:3], -1), False)
    if mask.dtype == torch.bool:
        return mask & ~closed
    return mask.masked_fill(closed, torch.finfo(mask.dtype).min)


def nas_terms(
    attention: Tensor, log_ratio: Tensor | None = None, counted: Tensor | None = None
) -> Tensor:
    """Return the summand of Eq. 1 in each row i: (A[i,yes] + A[i,no]) * log(A[i,no] / A[i,yes]).

    NAS is its sum over the rows from the first token after the instruction to the last token.

    Args:
        attention: softmax weights A of R rows on the positive and the negative word, [..., R, 2].
        log_ratio: the logarithm, [..., R]; from the weights unless given. The difference of the
            pre-softmax scores is the same and exact where a weight is too small for its dtype.
        counted: which rows count, [..., R]; those in which both weights are above 0 unless given.

    Returns:
        [..., R], 0 in rows that do not count, such as those in which a word is masked.
    """
    if log_ratio is None:
        log_ratio = (attention[..., 1] / attention[..., 0]).log()
    if counted is None:
        counted = (attention > 0).all(dim=-1)
    return torch.where(counted, attention.sum(dim=-1) * log_ratio, 0)


@dataclass(frozen=True)
class RowScores:
    """Pre-softmax scores of R rows."""

    query: Tensor  # [B, H, R, D]
    scaling: float
    softcap: float | None  # of Gemma 2

    def of(self, key: Tensor) -> Tensor:
        """Return the scores [B, H, R, K] against the keys [B, G, K, D], without repeating them."""
        batch, heads, rows, size = self.query.shape
        groups = key.shape[1]
        # [B, H, R, D] -> [B, G, H/G * R, D]: the heads of a group are neighbours
        grouped = self.query.reshape(batch, groups, heads // groups * rows, size)
        scores = (grouped @ key.transpose(2, 3)).reshape(batch, heads, rows, -1) * self.scaling
        if self.softcap is not None:
            scores = torch.tanh(scores / self.softcap) * self.softcap
        return scores

    def logsumexp(
        self, key: Tensor, mask: Tensor | None, rows: Tensor, sinks: Tensor | None
    ) -> Tensor:
        """Return the logarithm of the softmax's denominator of each row, [B, H, R].

        Keys are [B, G, K, D], attention sinks [H] or [B, H, R]; mask and rows are as for
        ``attended``.
        """
        batch, heads, count, _ = self.query.shape
        block = max(16, BLOCK_ENTRIES // max(1, batch * heads * count))
        total = None
        for start in range(0, key.shape[2], block):
            scores = self.of(key[:, :, start : start + block].to(self.query.dtype))
            scores = scores + _additive(mask, rows, start, scores)
            part = scores.logsumexp(dim=-1)
            total = part if total is None else torch.logaddexp(total, part)
        assert total is not None, "a row attends to itself at least"
        if sinks is not None:
            sinks = sinks if sinks.dim() == 3 else sinks.reshape(1, -1, 1)
            total = torch.logaddexp(total, sinks.to(total.dtype))
        return total

    def last(self, key: Tensor, mask: Tensor | None, rows: Tensor, total: Tensor) -> Tensor:
        """Return the softmax weights of the last row on all keys [B, G, K, D], as [B, H, K].

        ``total`` is the ``logsumexp`` of the rows, [B, H, R].
        """
        scores = replace(self, query=self.query[:, :, -1:]).of(key.to(self.query.dtype))
        part = None if mask is None else mask[:, :, -1:]
        scores = scores + _additive(part, rows[-1:], 0, scores)
        return (scores - total[:, :, -1:, None]).exp()[:, :, 0]


def _additive(mask: Tensor | None, rows: Tensor, start: int, scores: Tensor) -> Tensor:
    """The columns of the mask from ``start`` on, additive: 0 where a row attends."""
    dtype, width = scores.dtype, scores.shape[-1]
    if mask is None:
        keys = torch.arange(start, start + width, device=rows.device)
        block = (keys <= rows[:, None])[None, None]
    else:
        block = mask[..., start : start + width]
    if block.dtype == torch.bool:
        blank = torch.zeros(block.shape, dtype=dtype, device=block.device)
        return blank.masked_fill(~block, torch.finfo(dtype).min)
    closed = block <= torch.finfo(block.dtype).min / 2
    return block.to(dtype).masked_fill(closed, torch.finfo(dtype).min)
