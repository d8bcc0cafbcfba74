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
    """Keeps the logsumexp that an attention kernel computes beside its output; a context manager.

    ``scaled_dot_product_attention`` throws it away, though every fused kernel has it. The output is
    what it would be. Kernels that give it only on demand (memory-efficient and cuDNN attention on
    CUDA) are asked for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._value: Tensor | None = None

    def of(self, query: Tensor) -> Tensor | None:
        """Returns the logsumexp [B, H, Tq] for queries [B, H, Tq, D]; None if no kernel gave it."""
        if self._value is None:
            return None
        return self._value.reshape(query.shape[:3])  # a single row came as the heads of its group

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
            # Kernels pad the rows, or give the logsumexp a last dimension of 1.
            self._value = output[1].reshape(batch, heads, -1)[:, :, :rows]
        return output


_aten = torch.ops.aten
_ON_DEMAND = {  # kernel -> place of the argument that asks for the logsumexp
    _aten._scaled_dot_product_efficient_attention.default: 4,
    _aten._scaled_dot_product_cudnn_attention.default: 4,
}
_KERNELS = {
    _aten._scaled_dot_product_flash_attention_for_cpu.default,
    _aten._scaled_dot_product_flash_attention.default,
    *_ON_DEMAND,
}


def gather_keys(key: Tensor, columns: Tensor) -> Tensor:
    """Returns the keys [B, G, 2, D] at two columns [B, 2] of all keys [B, G, K, D]."""
    batch, groups, _, size = key.shape
    return key.gather(2, columns[:, None, :, None].expand(batch, groups, 2, size))


def attended(mask: Tensor | None, rows: Tensor, columns: Tensor) -> Tensor:
    """Says which rows attend to each of two columns [B, 2], as [B, 1 or H, R, 2].

    Args:
        mask: None (causal), boolean (True attends) or additive, [B, 1 or H, R, K].
        rows: position of each row, [R].
        columns: two positions a sample.
    """
    if mask is None:
        return (columns[:, None, :] <= rows[None, :, None])[:, None]
    mask = mask.expand(len(columns), -1, -1, -1)
    there = mask.gather(3, columns[:, None, None, :].expand(*mask.shape[:3], 2))
    if there.dtype != torch.bool:
        there = there > torch.finfo(there.dtype).min / 2
    return there


def row_terms(attention: Tensor, log_ratio: Tensor) -> Tensor:
    """Returns what each row adds to the NAS of its head (Eq. 1), before masked rows are left out.

    Args:
        attention: softmax weights on the positive and the negative word, [..., R, 2].
        log_ratio: log of negative by positive weight, [..., R]. The recorder takes it as the
            difference of two pre-softmax scores, since the weights may be zero in low precision.
    """
    return attention.sum(dim=-1) * log_ratio


@dataclass(frozen=True)
class RowScores:
    """Scores of R rows.

    Attributes:
        query: [B, H, R, D].
        scaling: of the products.
        softcap: of Gemma 2, or None.
    """

    query: Tensor
    scaling: float
    softcap: float | None

    def of(self, key: Tensor) -> Tensor:
        """Returns the scores [B, H, R, K] against the keys [B, G, K, D], without repeating them."""
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
        """Returns the logarithm of the softmax's denominator of each row, [B, H, R].

        Args:
            key: [B, G, K, D].
            mask: as for ``attended``.
            rows: position of each row, [R].
            sinks: attention sinks [H], or None.
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
            total = torch.logaddexp(total, sinks.to(total.dtype).reshape(1, -1, 1))
        return total

    def last(self, key: Tensor, mask: Tensor | None, rows: Tensor, total: Tensor) -> Tensor:
        """Returns the softmax weights of the last row on all keys, [B, H, K].

        Args:
            key: [B, G, K, D].
            mask: as for ``attended``.
            rows: position of each row, [R].
            total: the ``logsumexp`` of the rows, [B, H, R].
        """
        scores = replace(self, query=self.query[:, :, -1:]).of(key.to(self.query.dtype))
        part = None if mask is None else mask[:, :, -1:]
        scores = scores + _additive(part, rows[-1:], 0, scores)
        return (scores - total[:, :, -1:, None]).exp()[:, :, 0]


def _additive(mask: Tensor | None, rows: Tensor, start: int, scores: Tensor) -> Tensor:
    """A block of the mask from a column on, like the scores: 0 where a row attends."""
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
