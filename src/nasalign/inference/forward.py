"""One forward pass over a batch of prompts, in which a shared prefix runs once (``prefix``)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from nasalign.inference.batches import HasTokens
from nasalign.inference.kernels import quick_kernels
from nasalign.inference.prefix import (
    agree,
    is_recurrent,
    prefix_cache,
    repeated,
    shared_prefix,
)
from nasalign.nas.positions import Positions
from nasalign.nas.recorder import NasRecorder

TOKENS_WORTH_A_PASS = 2048
"""Tokens that sharing must save on an accelerator to outweigh its kernel launches."""


def prefix_worth_sharing(model: PreTrainedModel, prompts: Sequence[HasTokens], prefix: int) -> int:
    """Return a prefix if running it once is faster than with each prompt, and as exact, or 0."""
    least = 1 if model.device.type == "cpu" else TOKENS_WORTH_A_PASS
    if (len(prompts) - 1) * prefix < least or (torch.is_grad_enabled() and is_recurrent(model)):
        return 0
    return prefix if shares_exactly(model, prompts, prefix) else 0


_EXACT: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()


@torch.no_grad()
def shares_exactly(model: PreTrainedModel, prompts: Sequence[HasTokens], prefix: int) -> bool:
    """Whether prompts get the same logits whether their prefix runs once or with each.

    The first two prompts with which a model is asked decide.
    """
    if model not in _EXACT and prefix and len(prompts) > 1:
        whole, shared = (partial(answer_logits, model, prompts[:2], prefix=p) for p in (0, prefix))
        _EXACT[model] = agree(whole, shared)
    return _EXACT.get(model, True)


def answer_logits(
    model: PreTrainedModel,
    prompts: Sequence[HasTokens],
    recorder: NasRecorder | None = None,
    prefix: int | None = None,
    last: Sequence[int] | None = None,
    shared: Cache | None = None,
) -> Tensor:
    """Return the logits [B, vocabulary] after the last token of each prompt.

    Args:
        model: differentiable where its parameters are.
        prompts: B prompts, with the positions of Eq. 1 if there is a recorder. They are padded
            on the right, which causal attention never sees, so that positions and sliding windows
            are those of the prompt alone.
        recorder: an entered recorder, which records the NAS of this batch.
        prefix: number P of shared leading tokens that run once, 0 for none; ``shared_prefix`` of
            the batch, if that is faster, unless given.
        last: trailing positions per prompt to return logits for, as [sum of last, vocabulary],
            prompt by prompt from front to back; the last position of each unless given.
        shared: what the P tokens left in the cache of one prompt, if they have run already
            (``prefix_cache``); it is not changed.
    """
    device = model.get_input_embeddings().weight.device
    if prefix is None:
        prefix = prefix_worth_sharing(model, prompts, shared_prefix(prompts))
    rest = [prompt.token_ids[prefix:] for prompt in prompts]
    cache = None
    if prefix:
        if shared is None:
            cache = prefix_cache(model, prompts, prefix)
        else:
            cache = repeated(shared, len(prompts), device)
    try:
        if recorder is not None:
            recorder.expect(_positions(prompts))
        return logits_after(model, cache, rest, last)
    finally:  # if memory runs out, the next pass is of other prompts
        if recorder is not None:
            recorder.expect(None)


def logits_after(
    model: PreTrainedModel,
    cache: Cache | None,
    tokens: Sequence[tuple[int, ...]],
    last: Sequence[int] | None = None,
    **how: Tensor,
) -> Tensor:
    """Return the logits [B, vocabulary] after tokens that follow a cache.

    Args:
        model: differentiable where its parameters are.
        cache: of what comes before the tokens, which are added to it; None if nothing does.
        tokens: of B rows, padded here on the right.
        last: trailing positions per row to return logits for, as of ``answer_logits``.
        how: ``attention_mask`` and ``position_ids``, for a cache that is padded.
    """
    lengths = torch.tensor([len(own) for own in tokens])
    counts = torch.tensor(last or [1] * len(tokens))
    rows = torch.arange(len(lengths)).repeat_interleave(counts)
    before_end = torch.cat([torch.arange(count, 0, -1) for count in counts.tolist()])
    return logits_at(
        model,
        rows,
        lengths[rows] - before_end,
        input_ids=padded_right(tokens),
        past_key_values=cache,
        use_cache=cache is not None,
        **how,
    )


def logits_at(model: PreTrainedModel, rows: Tensor, places: Tensor, **how: Any) -> Tensor:
    """Return the logits [N, vocabulary] at N places of a pass, given by row and column.

    ``how`` is what the model takes. Logits of all places would be the largest tensor of the pass.
    """
    device = model.get_input_embeddings().weight.device
    given = {name: _moved(value, device) for name, value in how.items()}

    def select(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
        hidden = inputs[0]
        return (hidden[rows.to(hidden.device), places.to(hidden.device)][:, None], *inputs[1:])

    hook = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        with quick_kernels(model):
            logits: Tensor = model(**given).logits
    finally:
        hook.remove()
    return logits[:, 0]


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value


def padded_right(tokens: Sequence[tuple[int, ...]]) -> Tensor:
    """Return rows of tokens as [B, T], padded on the right."""
    ids = torch.zeros(len(tokens), max(map(len, tokens)), dtype=torch.long)
    for row, own in enumerate(tokens):
        ids[row, : len(own)] = torch.tensor(own)
    return ids


def over_tokens(
    values: Tensor, tokens: Sequence[tuple[int, ...]], reduce: Callable[[Tensor], Tensor]
) -> Tensor:
    """Reduce the entries at each row's own tokens; return [B], differentiable.

    The values are such as logits, [B, vocabulary]. Rows with the same K tokens, mostly all, are
    read at once to save kernel launches: ``reduce`` maps their entries [n, K] to [n].
    """
    alike: dict[tuple[int, ...], list[int]] = {}
    for row, own in enumerate(tokens):
        alike.setdefault(own, []).append(row)
    parts = [
        reduce(values[torch.tensor(rows)[:, None], torch.tensor(own, dtype=torch.long)])
        for own, rows in alike.items()
    ]
    order = torch.tensor([row for rows in alike.values() for row in rows])
    return torch.cat(parts)[order.argsort()]


def _positions(prompts: Sequence[Any]) -> Positions:
    """Where Eq. 1 reads prompts, each a ``BinaryPrompt`` or a ``MarkedText``."""
    return Positions(
        positive=torch.tensor([prompt.positive_position for prompt in prompts]),
        negative=torch.tensor([prompt.negative_position for prompt in prompts]),
        first_row=torch.tensor([prompt.first_row for prompt in prompts]),
        end_row=torch.tensor([len(prompt.token_ids) for prompt in prompts]),
    )
