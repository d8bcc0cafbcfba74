"""The negative attention score (Eq. 1), recorded during a forward pass.

Dimensions: B batch, L layers, H query heads, G key heads (groups), T tokens, R rows in the sum,
D head size. "Positive" and "negative" are the two answer words of the instruction.

The recorder is a registered attention function that calls the model's own for the output, and
computes the scores of two columns from the same queries and keys. Their softmax weights need the
logsumexp of each row: a fused attention kernel has computed it already (``KernelLogsumexp``);
with eager attention it is computed here over blocks of keys. No T x T matrix is kept.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from nasalign.errors import ModelError
from nasalign.models.geometry import HeadGeometry, text_model
from nasalign.nas.attention_scores import (
    KernelLogsumexp,
    RowScores,
    attended,
    gather_keys,
    nas_terms,
    picked,
    with_bias,
)
from nasalign.nas.implementations import Attention, attention_of, has_eager, register
from nasalign.nas.positions import PackedPositions, Positions

Watch = Callable[[int, Tensor], None]
"""Gets a layer and its attention: [B, H, R, 2] to the two words, 0 where they are masked, in the
rows from the first of any sum to the last; or, for ``watch_last``, [B, H, K] in the last row."""


class NasRecorder:
    """Records the NAS of every head while the model runs.

    As a context manager it switches the attention implementation of the model, of a multimodal one
    that of its text model, on entering and restores it on leaving, also after an exception; the
    model's outputs stay the same. ::

        with NasRecorder(model) as recorder:
            recorder.expect(positions)
            model(**batch)
            recorder.nas                     # [B, L, H]

    A place without a head is NaN. A head whose NAS cannot be computed, as its scores are not
    finite, is infinite: a sum over heads leaves the former out and cannot hide the latter.

    Args:
        model: a supported model; one that runs flash or flex attention is recorded with SDPA, or
            with its eager attention where SDPA lacks soft-capping or sinks.
        watch: called with the attention of each layer to the two words.
        watch_last: called with the attention of the last row of each layer to all keys.

    Raises:
        ModelError: the architecture is not supported.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        watch: Watch | None = None,
        watch_last: Watch | None = None,
    ) -> None:
        self.model, self.watch, self.watch_last = model, watch, watch_last
        self.geometry = HeadGeometry.of(model)
        self.nas = torch.empty(0)
        self._positions: Positions | PackedPositions | None = None
        self._rows = (0, 0)
        self._previous = ""
        self.entered = False
        dtype = torch.promote_types(model.dtype, torch.float32)
        # Encoders of images or sound keep their attention, which may not take another.
        text = text_model(model)[1]
        self._text = text if isinstance(text, PreTrainedModel) else model
        self.blank = self.geometry.blank(dtype)  # [L, H]
        self._layers = {  # of each attention module
            model.get_submodule(name): layer for layer, name in self.geometry.modules.items()
        }

    def __enter__(self) -> "NasRecorder":
        self._previous = self._text.config._attn_implementation
        inner = "sdpa" if self._previous != "eager" and self._text._supports_sdpa else "eager"
        if any(module in _RECORDERS for module in self._layers):
            raise RuntimeError("the model is being recorded already")
        for module in self._layers if inner == "eager" else ():
            if not has_eager(module):
                kind = type(module).__name__
                raise ModelError(f"{kind} has no eager attention to record beside.")
        _RECORDERS.update(dict.fromkeys(self._layers, self))
        self._text.set_attn_implementation(_NAMES[inner])
        self.entered = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for module in self._layers:
            _RECORDERS.pop(module, None)
        self._text.set_attn_implementation(self._previous)
        self._positions, self.entered = None, False

    @property
    def expecting(self) -> bool:
        """Whether the next forward pass is recorded."""
        return self._positions is not None

    def expect(self, positions: Positions | PackedPositions | None) -> None:
        """Set the positions of the next forward pass and clear ``nas``, [B, L, H], to zeros.

        ``nas`` is float32, or float64 for a float64 model, beside the input embeddings; NaN where
        there is no head. With None, the next pass is not recorded and ``nas`` stays. Where a row
        holds several prompts, ``nas`` has one for each of them.
        """
        self._positions = None
        if positions is None:
            return
        device = self.model.get_input_embeddings().weight.device
        self._positions = positions.to(device)
        # Read on the CPU: reading from a device would wait for its queue.
        self._rows = positions.span()
        self.nas = self.blank.to(device).repeat(len(positions), 1, 1)

    @torch.no_grad()
    def observe(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        mask: Tensor | None,
        options: dict,
        logsumexp: Tensor | None = None,
    ) -> None:
        """Add a layer's NAS; called by the attention function.

        Args:
            module: the attention module.
            query: [B, H, Tq, D], after rotary embedding and normalisation.
            key: [B, G, Tk, D]; the queries are the last Tq of the Tk positions, so a cache
                must hold all keys, not those of a sliding window alone.
            mask: None (causal), boolean (True attends) or additive, [B, 1 or H, Tq, >= Tk].
            options: the attention function's keyword arguments; ``scaling``, ``softcap``,
                ``position_bias`` ([1 or B, H, Tq, Tk]) and the attention sinks ``s_aux`` ([H]) or
                ``sinks`` ([B, H, Tq, 1]) are part of the scores.
            logsumexp: of the scores of each row, [B, H, Tq], if the attention kernel gave it.
        """
        assert self._positions is not None, "nothing is expected"
        layer = self._layers[module]
        device, dtype = query.device, self.nas.dtype
        here = self._positions.to(device)
        offset = key.shape[2] - query.shape[2]
        first, end = max(self._rows[0] - offset, 0), self._rows[1] - offset
        keys = self._rows[1]  # no row of the sum attends to a later key
        scaling = options.get("scaling")
        scores = RowScores(
            query=query[:, :, first:end].to(dtype),
            scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
            softcap=options.get("softcap"),
        )
        rows = torch.arange(first + offset, end + offset, device=device)
        columns = torch.stack([here.positive, here.negative], dim=-1)  # [B, 2]
        bias = options.get("position_bias")
        part = None if mask is None else mask[:, :, first:end, :keys]
        if bias is not None:
            part = with_bias(part, bias[:, :, first:end, :keys].to(dtype), rows)
        pair = scores.of(gather_keys(key, columns).to(dtype))  # [B, H, R, 2]
        seen, added = attended(part, rows, columns)
        pair = pair + added.to(dtype)
        if logsumexp is None:
            sinks = options.get("sinks")  # of Inkling 2, by row
            sinks = options.get("s_aux") if sinks is None else sinks[:, :, first:end, 0]
            total = scores.logsumexp(key[:, :, :keys], part, rows, sinks)
        else:
            total = logsumexp[:, :, first:end].to(dtype)

        attention = (pair - total[..., None]).exp()  # [B, H, R, 2]
        if self.watch:
            self.watch(layer, torch.where(seen, attention, 0))
        if self.watch_last:
            self.watch_last(layer, scores.last(key[:, :, :keys], part, rows, total))
        log_ratio = pair[..., 1] - pair[..., 0]
        terms = nas_terms(attention, log_ratio, seen.all(dim=-1))
        # Infinite, not NaN, where it cannot be computed: NaN says that there is no head.
        nas = here.total(terms, rows).nan_to_num(*(torch.inf,) * 3)
        self.nas[:, layer, : nas.shape[1]] = nas.to(self.nas.device)


_RECORDERS: WeakKeyDictionary[nn.Module, NasRecorder] = WeakKeyDictionary()


def _recording(implementation: str) -> Attention:
    """An attention function that returns what ``implementation`` does and calls the recorder."""

    def attend(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        **options: Any,
    ) -> tuple[Tensor, Tensor | None]:
        attention = attention_of(module, implementation)
        attention_mask = picked(attention_mask, options.pop("indices", None))
        recorder = _RECORDERS.get(module)
        if recorder is None or not recorder.expecting:
            return attention(module, query, key, value, attention_mask, **options)
        with KernelLogsumexp() as kernel:
            output = attention(module, query, key, value, attention_mask, **options)
        recorder.observe(module, query, key, attention_mask, options, kernel.of(query))
        return output

    return attend


# Not "nasalign_sdpa": transformers takes a name with "sdpa" in it for its own SDPA.
_NAMES = {"sdpa": "nasalign", "eager": "nasalign_eager"}
for _inner, _name in _NAMES.items():
    register(_name, _recording(_inner), _inner)
