"""An offset of the attention to the two answer words, head by head, while a model runs.

With an offset o, a head's pre-softmax score of the positive word's key is raised by o / 2 and that
of the negative word's is lowered by as much, in every row that attends to both. The logarithm of
A[i,yes] / A[i,no] grows by o, and the softmax is taken over the moved scores.

The scores are moved where they come from: queries and keys get one more dimension, in which the key
of the positive word holds 1/2, that of the negative one -1/2 and every other 0, and the query of
such a row o / scaling. So whatever computes attention, or records it, does so with the offset in
place: causal or masked, with a window, with sinks, with keys shared by a group, with gradients, and
without a T x T matrix. A soft cap would bend what is added below it; there the capped scores
themselves are handed on as queries of unit keys. Only eager attention has soft caps, and that keeps
a T x T matrix anyway.

Dimensions as in ``recorder``: B batch, L layers, H query heads, G key heads, T tokens, D head size,
and K keys.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Cache, PreTrainedModel

import nasalign.nas.recorder  # noqa: F401  its attention functions are among those wrapped here
from nasalign.models.geometry import HeadGeometry
from nasalign.nas.attention_scores import RowScores, attended
from nasalign.nas.implementations import Attention, attention_of, register
from nasalign.prompts.builder import BinaryPrompt

_MORE = 8
"""Dimensions that are added, of which one is used: fused kernels want multiples of 8."""


def words_of(prompt: BinaryPrompt) -> tuple[int, ...]:
    """Returns the token ids of an instruction's "Yes or No", from the first word to the second.

    It is what ``attention_offset`` looks for; a prompt with other answer words, or with more of
    them, has another.

    Raises:
        ValueError: the negative word stands first, as in a mirrored prompt.
    """
    first, last = prompt.positive_position, prompt.negative_position
    if first >= last:
        raise ValueError(f"the positive word is at {first}, not before the negative one at {last}")
    return prompt.token_ids[first : last + 1]


@contextmanager
def attention_offset(
    model: PreTrainedModel, offsets: Tensor, words: Sequence[int]
) -> Iterator[None]:
    """Moves the attention of heads from the negative word to the positive one; a context manager.

    In each sample the words are looked for in the token ids, and their first occurrence counts.
    They are remembered with the cache that a pass fills, for later passes, which see only what
    follows. The attention of a sample without them is left as it is, to the bit.

    The model's attention implementation is another one during each pass of its base model, and put
    back after it, also after an exception; a pass of single layers has no offset. A ``NasRecorder``
    may be entered inside or outside; it records the NAS with the offset in place.

    Args:
        model: a supported model; one that runs flash or flex attention runs SDPA meanwhile, or
            eager attention where it lacks SDPA.
        offsets: of the logarithm of A[i,yes] / A[i,no], [L, H]; differentiable. Layers whose
            offsets are all 0 are left alone, unless a gradient is asked for.
        words: token ids from the positive word to the negative one, as of ``words_of``.

    Raises:
        ModelError: the architecture is not supported.
        ValueError: the offsets are of another shape, or ``words`` holds fewer than two tokens; in
            a pass: there are no token ids, or the cache was filled outside of this context.
        RuntimeError: the model has such an offset already.
    """
    geometry = HeadGeometry.of(model)
    if offsets.shape != (geometry.layers, geometry.heads):
        expected = (geometry.layers, geometry.heads)
        raise ValueError(f"the offsets are {tuple(offsets.shape)}, the heads {expected}")
    if len(words) < 2:
        raise ValueError(f"two words are at least two tokens, not {list(words)}")
    modules = [model.get_submodule(name) for name in geometry.attention_modules]
    if any(module in _ACTIVE for module in modules):
        raise RuntimeError("the model has an attention offset already")
    config: Any = modules[0].config
    active = _Offset(config, "sdpa" if model._supports_sdpa else "eager", offsets, words)
    base = model.base_model
    _ACTIVE.update(dict.fromkeys(modules, active))
    hooks = [
        base.register_forward_pre_hook(active.begin, with_kwargs=True),
        base.register_forward_hook(active.end, with_kwargs=True, always_call=True),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module in modules:
            _ACTIVE.pop(module, None)


class _Offset:
    """An active offset: what it does, what the caches hold, and where the words of a pass lie."""

    def __init__(self, config: Any, other: str, offsets: Tensor, words: Sequence[int]) -> None:
        self._config, self._other, self._offsets = config, other, offsets
        self._words = torch.tensor(list(words))
        some = range(len(offsets)) if offsets.requires_grad else offsets.any(dim=1).nonzero()
        self.layers = {int(layer) for layer in some}
        self._held: WeakKeyDictionary[Cache, Tensor] = WeakKeyDictionary()
        self._ids = torch.empty(0)  # of this pass and what is before it in the cache, [B, T]
        self._columns = torch.empty(0)  # of the positive and the negative word, [B, 2]
        self.found = torch.empty(0)  # whether a sample has them, [B]
        self.everywhere = False  # whether all have them; asked once a pass, not in every layer
        self._previous: str | None = None

    def begin(self, module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Finds the words before a pass and, where there are any, switches the attention."""
        ids = options.get("input_ids", args[0] if args else None)
        if ids is None:
            raise ValueError("an attention offset finds the answer words by token ids: give them")
        self._ids = self._with_earlier(ids, options.get("past_key_values"))
        words, width = self._words.to(ids.device), len(self._words)
        if self._ids.shape[1] < width:
            return
        alike = (self._ids.unfold(1, width, 1) == words).all(dim=-1)  # [B, T - width + 1]
        self.found = alike.any(dim=1)
        self.everywhere = bool(self.found.all())
        start = alike.int().argmax(dim=1)  # the first of equals
        self._columns = torch.stack([start, start + width - 1], dim=-1)
        if self.found.any():
            self._previous = self._config._attn_implementation
            inner = self._previous if self._previous in _NAMES else self._other
            self._config._attn_implementation = _NAMES[inner]

    def end(
        self, module: nn.Module, args: tuple[Any, ...], options: dict[str, Any], output: Any
    ) -> None:
        """Puts the attention back after a pass, and notes what the cache now holds."""
        if self._previous is not None:
            self._config._attn_implementation, self._previous = self._previous, None
        cache = getattr(output, "past_key_values", None)  # no output after an exception
        if cache is not None:
            self._held[cache] = self._ids

    def _with_earlier(self, ids: Tensor, cache: Cache | None) -> Tensor:
        """The ids of a pass after those whose keys the cache holds, [B, T]."""
        past = 0 if cache is None else int(cache.get_seq_length())
        if cache is None or past == 0:
            return ids
        held = self._held.get(cache)
        if held is None or held.shape[1] < past or len(ids) % len(held):
            raise ValueError("what the cache holds was not read within this attention offset")
        earlier = held[:, :past].repeat_interleave(len(ids) // len(held), dim=0)
        return torch.cat([earlier.to(ids.device), ids], dim=1)

    def moved(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        options: dict[str, Any],
    ) -> tuple[tuple[Tensor, Tensor, Tensor], dict[str, Any]]:
        """Returns queries, keys, values and options of the same scores with the offset in them.

        Args:
            layer: index of the layer.
            query: [B, H, Tq, D], after rotary embedding and normalisation.
            key: [B, G, K, D].
            value: as the keys; made as wide as they are, since some kernels want that.
            mask: None (causal), boolean (True attends) or additive, [B, 1 or H, Tq, K].
            options: the attention function's keyword arguments.
        """
        strength, share = self._parts(layer, query, key, mask)
        scaling = options.get("scaling")
        scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
        softcap = options.get("softcap")
        if softcap is None:
            more = (strength / scaling)[..., None]  # [B, H, Tq, 1]
            side = share[:, None, :, None].expand(*key.shape[:3], 1)  # [B, G, K, 1]
            wider = _wider(query, more), _wider(key, side), functional.pad(value, (0, _MORE))
            return wider, options | {"scaling": scaling}
        scores = RowScores(query, scaling, softcap).of(key)  # [B, H, Tq, K]
        scores = scores + strength[..., None] * share[:, None, None]
        unit = torch.eye(key.shape[2], dtype=key.dtype, device=key.device)
        unit = unit.expand(*key.shape[:2], -1, -1)  # [B, G, K, K]
        return (scores, unit, value), options | {"scaling": 1.0, "softcap": None}

    def _parts(
        self, layer: int, query: Tensor, key: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The offset in each row, [B, H, Tq], and each key's share of it, [B, K]."""
        device, total = query.device, self._ids.shape[1]
        gone = max(0, total - key.shape[2])  # what a cache of a sliding window keeps no more
        rows = torch.arange(total - query.shape[2], total, device=device) - gone
        columns = self._columns.to(device) - gone
        found = self.found.to(device) & (columns >= 0).all(dim=-1)  # [B]
        columns = columns.clamp(min=0)
        seen = attended(mask, rows, columns).all(dim=-1) & found[:, None, None]  # [B, 1 or H, Tq]
        own = self._offsets[layer].to(device, query.dtype)  # [H]
        share = torch.zeros(len(columns), key.shape[2], dtype=key.dtype, device=device)
        halves = torch.tensor([0.5, -0.5], dtype=key.dtype, device=device).expand_as(columns)
        return own[:, None] * seen, share.scatter(1, columns, halves)


def _wider(tensor: Tensor, column: Tensor) -> Tensor:
    """Adds a column [..., 1] to a tensor [..., D], and zeros: [..., D + 8]."""
    return functional.pad(torch.cat([tensor, column], dim=-1), (0, _MORE - 1))


_ACTIVE: WeakKeyDictionary[nn.Module, _Offset] = WeakKeyDictionary()


def _offsetting(implementation: str) -> Attention:
    """An attention function that has ``implementation`` compute with the offset."""

    def attend(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        **options: Any,
    ) -> tuple[Tensor, Tensor | None]:
        attention = attention_of(module, implementation)
        active, layer = _ACTIVE.get(module), int(module.layer_idx)  # type: ignore[arg-type]
        if active is None or layer not in active.layers:
            return attention(module, query, key, value, attention_mask, **options)
        untouched = None
        if not active.everywhere:  # first, for a recorder keeps what it is told last
            untouched, _ = attention(module, query, key, value, attention_mask, **options)
        moved, changed = active.moved(layer, query, key, value, attention_mask, options)
        output, weights = attention(module, *moved, attention_mask, **changed)
        output = output[..., : value.shape[-1]]  # [B, Tq, H, D]
        if untouched is not None:
            found = active.found.to(output.device)[:, None, None, None]
            output = torch.where(found, output, untouched)
        return output, weights

    return attend


_NAMES = {  # "sdpa" in a name means the real one
    "sdpa": "nasalign_offset",
    "eager": "nasalign_offset_eager",
    "nasalign": "nasalign_offset_recorded",
    "nasalign_eager": "nasalign_offset_eager_recorded",
}
for _inner, _name in _NAMES.items():
    register(_name, _offsetting(_inner), _inner)
