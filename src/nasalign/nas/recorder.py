"""The negative attention score (Eq. 1), recorded during a forward pass.

Dimensions: B batch, L layers, H query heads, G key heads (groups), T tokens, R rows in the sum,
D head size. "Positive" and "negative" are the two answer words of the instruction.

The recorder is an attention function beside the model's own: it lets that one compute the output,
and from the same queries and keys it takes the scores of two columns and the row-wise logsumexp of
all of them. No T x T matrix is kept; the logsumexp goes over the keys in blocks.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from nasalign.errors import ModelError
from nasalign.models.geometry import HeadGeometry

BLOCK_ENTRIES = 2**24
"""Scores held at once while the logsumexp is taken (64 MiB in float32)."""


@dataclass(frozen=True)
class Positions:
    """Where the sum of Eq. 1 runs in a padded batch; each is int64 of shape [B].

    Attributes:
        positive: column of the positive word, t_yes.
        negative: column of the negative word, t_no.
        first_row: first row of the sum, L_I.
        end_row: one past its last row, L_x; padding after it is left out.
    """

    positive: Tensor
    negative: Tensor
    first_row: Tensor
    end_row: Tensor


class NasRecorder:
    """Records the NAS of every head while the model runs.

    As a context manager it switches the model's attention implementation on entering and restores
    it on leaving, also after an exception; the model's outputs stay the same. ::

        with NasRecorder(model) as recorder:
            recorder.expect(positions)
            model(**batch)
            recorder.nas                     # [B, L, H]

    Args:
        model: a supported model; one that runs flash or flex attention is recorded with SDPA, or
            with its eager attention where SDPA lacks soft-capping or sinks.

    Raises:
        ModelError: the architecture is not supported.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.geometry = HeadGeometry.of(model)
        self.nas = torch.empty(0)
        self._positions: Positions | None = None
        self._rows = (0, 0)
        self._previous = ""

    def __enter__(self) -> "NasRecorder":
        self._previous = self.model.config._attn_implementation
        inner = "sdpa" if self._previous != "eager" and self.model._supports_sdpa else "eager"
        modules = [self.model.get_submodule(name) for name in self.geometry.attention_modules]
        if any(module in _RECORDERS for module in modules):
            raise RuntimeError("the model is being recorded already")
        if inner == "eager" and not hasattr(_modeling(modules[0]), "eager_attention_forward"):
            kind = type(modules[0]).__name__
            raise ModelError(f"{kind} has no eager attention to record beside.")
        _RECORDERS.update(dict.fromkeys(modules, self))
        self.model.set_attn_implementation(_NAMES[inner])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for name in self.geometry.attention_modules:
            _RECORDERS.pop(self.model.get_submodule(name), None)
        self.model.set_attn_implementation(self._previous)
        self._positions = None

    def expect(self, positions: Positions | None) -> None:
        """Sets the positions of the next forward pass and clears ``nas`` to zeros [B, L, H].

        ``nas`` is float32, or float64 for a float64 model. With None, the next pass is not
        recorded and ``nas`` stays.
        """
        self._positions = positions
        if positions is None:
            return
        self._rows = (int(positions.first_row.min()), int(positions.end_row.max()))
        dtype = torch.promote_types(self.model.dtype, torch.float32)
        shape = (len(positions.positive), self.geometry.layers, self.geometry.heads)
        self.nas = torch.zeros(shape, dtype=dtype, device=positions.positive.device)

    @torch.no_grad()
    def observe(
        self, layer: int, query: Tensor, key: Tensor, mask: Tensor | None, options: dict
    ) -> None:
        """Adds a layer's NAS; called by the attention function.

        Args:
            layer: index of the layer.
            query: [B, H, Tq, D], after rotary embedding and normalisation.
            key: [B, G, Tk, D]; the queries are the last Tq of the Tk positions, so a cache
                must hold all keys, not those of a sliding window alone.
            mask: None (causal), boolean (True attends) or additive, [B, 1 or H, Tq, >= Tk].
            options: the attention function's keyword arguments; ``scaling``, ``softcap`` and
                ``s_aux`` (attention sinks, [H]) are part of the scores.
        """
        if self._positions is None:
            return
        here, device = self._positions, query.device
        offset = key.shape[2] - query.shape[2]
        first, end = max(self._rows[0] - offset, 0), self._rows[1] - offset
        keys = self._rows[1]  # no row of the sum attends to a later key
        dtype = self.nas.dtype
        scaling = options.get("scaling")
        score = _Scores(
            query=query[:, :, first:end].to(dtype),
            key=key[:, :, :keys].to(dtype),
            scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
            softcap=options.get("softcap"),
            mask=_additive(mask, (first, end, keys), offset, device, dtype),
        )
        columns = torch.stack([here.positive, here.negative], dim=-1).to(device)
        pair, seen = score.columns(columns)  # [B, H, R, 2] and [B, 1 or H, R]
        total = score.logsumexp(options.get("s_aux"))  # [B, H, R]

        rows = torch.arange(first + offset, end + offset, device=device)
        first_row, end_row = here.first_row.to(device), here.end_row.to(device)
        inside = (rows >= first_row[:, None]) & (rows < end_row[:, None])  # [B, R]
        attention = (pair - total[..., None]).exp().sum(dim=-1)
        term = attention * (pair[..., 1] - pair[..., 0])
        counted = seen & inside[:, None]
        self.nas[:, layer] = torch.where(counted, term, 0).sum(dim=-1).to(self.nas.device)


@dataclass
class _Scores:
    """Pre-softmax scores of R rows, computed a few columns at a time; shapes as in ``observe``."""

    query: Tensor
    key: Tensor
    scaling: float
    softcap: float | None
    mask: Tensor

    def columns(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Scores [B, H, R, 2] of the columns [B, 2], and whether a row attends to both."""
        batch, groups, _, size = self.key.shape
        index = columns[:, None, :, None].expand(batch, groups, 2, size)
        pair = self._scores(self.key.gather(2, index))
        mask = self.mask.expand(batch, -1, -1, -1)
        closed = mask.gather(3, columns[:, None, None, :].expand(*mask.shape[:3], 2))
        return pair, (closed > torch.finfo(mask.dtype).min / 2).all(dim=-1)

    def logsumexp(self, sinks: Tensor | None) -> Tensor:
        """Logarithm of the softmax's denominator of each row, [B, H, R], sinks included."""
        batch, heads, rows, _ = self.query.shape
        block = max(16, BLOCK_ENTRIES // max(1, batch * heads * rows))
        total = None
        for start in range(0, self.key.shape[2], block):
            scores = self._scores(self.key[:, :, start : start + block])
            part = (scores + self.mask[..., start : start + block]).logsumexp(dim=-1)
            total = part if total is None else torch.logaddexp(total, part)
        assert total is not None, "a row attends to itself at least"
        if sinks is not None:
            total = torch.logaddexp(total, sinks.to(total.dtype).reshape(1, -1, 1))
        return total

    def _scores(self, key: Tensor) -> Tensor:
        """Scores [B, H, R, K] against the keys [B, G, K, D], without repeating them."""
        batch, heads, rows, size = self.query.shape
        groups = key.shape[1]
        # [B, H, R, D] -> [B, G, H/G * R, D]: the heads of a group are neighbours
        grouped = self.query.reshape(batch, groups, heads // groups * rows, size)
        scores = (grouped @ key.transpose(2, 3)).reshape(batch, heads, rows, -1) * self.scaling
        if self.softcap is not None:
            scores = torch.tanh(scores / self.softcap) * self.softcap
        return scores


def _additive(
    mask: Tensor | None,
    extent: tuple[int, int, int],
    offset: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    """The mask of rows ``first`` to ``end`` and ``keys`` columns, 0 where a row attends."""
    first, end, keys = extent
    if mask is None:
        rows = torch.arange(first + offset, end + offset, device=device)
        mask = (torch.arange(keys, device=device) <= rows[:, None])[None, None]
    else:
        mask = mask[:, :, first:end, :keys]
    if mask.dtype == torch.bool:
        closed = torch.finfo(dtype).min
        return torch.zeros(mask.shape, dtype=dtype, device=device).masked_fill(~mask, closed)
    closed_there = mask <= torch.finfo(mask.dtype).min / 2
    return mask.to(dtype).masked_fill(closed_there, torch.finfo(dtype).min)


_RECORDERS: WeakKeyDictionary[nn.Module, NasRecorder] = WeakKeyDictionary()


def _modeling(module: nn.Module) -> Any:
    return sys.modules[type(module).__module__]


def _recording(implementation: str) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """An attention function that computes as ``implementation`` does, and tells the recorder."""

    def attend(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        **options: Any,
    ) -> tuple[Tensor, Tensor | None]:
        if implementation == "eager":
            attention = _modeling(module).eager_attention_forward
        else:
            attention = ALL_ATTENTION_FUNCTIONS[implementation]
        output = attention(module, query, key, value, attention_mask, **options)
        if module in _RECORDERS:
            layer: Any = module.layer_idx
            _RECORDERS[module].observe(layer, query, key, attention_mask, options)
        return output

    return attend


_NAMES = {"sdpa": "nasalign", "eager": "nasalign_eager"}  # "sdpa" in a name means the real one
for _inner, _name in _NAMES.items():
    AttentionInterface.register(_name, _recording(_inner))
    # Without a mask function of the same name, transformers passes no mask at all.
    AttentionMaskInterface.register(_name, ALL_MASK_ATTENTION_FUNCTIONS[_inner])
