"""Prompts packed in one row of tokens, in which what several of them begin with stands once.

The two prompts of a pair differ in the answer that they ask about, so they share the question too,
and not the instruction alone, which is all that a batch shares (``prefix``). Here the tokens of all
prompts form a tree: each token sees the tokens of its own prompt before it, at their positions
there. There is no padding, and one pass in place of two. This is exact where attention is all that
mixes tokens, and reads no further than its mask; ``packs_exactly`` tries it out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from transformers import DynamicCache, DynamicLayer, PreTrainedModel

from nasalign.inference.batches import HasTokens
from nasalign.inference.forward import answer_logits, logits_at
from nasalign.inference.prefix import agree, alike

MOST_TOKENS = 1024
"""Tokens of a row at most: each is compared with all others, where in a batch it is not."""


@dataclass(frozen=True)
class Pack:
    """A row of K tokens.

    Attributes:
        token_ids: its tokens.
        positions: of each token in its prompts, [K].
        sees: whether the token of a row sees that of a column, bool [K, K].
        paths: of each prompt, the places of its tokens.
    """

    token_ids: list[int]
    positions: Tensor
    sees: Tensor
    paths: list[Tensor]


def packed(prompts: Sequence[HasTokens]) -> Pack | None:
    """Pack prompts in one row; return None if it would have more than ``MOST_TOKENS``."""
    tokens: list[int] = []
    positions: list[int] = []
    paths: dict[int, list[int]] = {}
    before: tuple[int, ...] = ()
    path: list[int] = []
    # In lexicographic order, a prompt shares the most with the one before it.
    for index in sorted(range(len(prompts)), key=lambda index: prompts[index].token_ids):
        own = prompts[index].token_ids
        shared = alike(before, own)
        path = path[:shared] + list(range(len(tokens), len(tokens) + len(own) - shared))
        tokens += own[shared:]
        positions += range(shared, len(own))
        paths[index], before = path, own
    if len(tokens) > MOST_TOKENS:
        return None
    sees = torch.zeros(len(tokens), len(tokens), dtype=torch.bool)
    places = [torch.tensor(paths[index]) for index in range(len(prompts))]
    for one in places:
        sees[one[:, None], one] |= torch.ones(len(one), len(one), dtype=torch.bool).tril()
    return Pack(tokens, torch.tensor(positions), sees, places)


def pack_logits(model: PreTrainedModel, pack: Pack, last: Sequence[int] | None = None) -> Tensor:
    """Return the logits [B, vocabulary] after the last token of each prompt of a pack.

    Args:
        model: differentiable where its parameters are.
        pack: B prompts.
        last: trailing positions per prompt to return logits for, as of ``answer_logits``.
    """
    counts = last or [1] * len(pack.paths)
    ends = [path[-count:] for path, count in zip(pack.paths, counts, strict=True)]
    mask = torch.zeros(pack.sees.shape, dtype=model.dtype)
    mask.masked_fill_(~pack.sees, torch.finfo(model.dtype).min)
    places = torch.cat(ends)
    return logits_at(
        model,
        torch.zeros_like(places),
        places,
        input_ids=torch.tensor([pack.token_ids]),
        attention_mask=mask[None, None],
        position_ids=pack.positions[None],
        use_cache=False,
    )


def packed_logits(model: PreTrainedModel, prompts: Sequence[HasTokens]) -> Tensor:
    """Return the logits [B, vocabulary] after the last token of prompts that ``packs_exactly``.

    They run in a row, or as ``answer_logits`` runs them where it would be too long.
    """
    pack = packed(prompts)
    return answer_logits(model, prompts) if pack is None else pack_logits(model, pack)


def packs_exactly(model: PreTrainedModel, prompts: Sequence[HasTokens]) -> bool:
    """Whether prompts get the same logits packed in a row as one by one.

    The longest prompt decides, with its neighbour by tokens and the shortest. False where these
    are too long for a row, since nothing can be tried then.
    """
    longest = max(len(prompt.token_ids) for prompt in prompts)
    if any(_forgets(layer, longest) for layer in DynamicCache(config=model.config).layers):
        return False
    order = sorted(prompts, key=lambda prompt: prompt.token_ids)
    place = max(range(len(order)), key=lambda place: len(order[place].token_ids))
    some = [*order[max(0, place - 1) : place + 1], min(order, key=lambda one: len(one.token_ids))]
    pack = packed(some)
    if pack is None:
        return False
    with torch.no_grad():
        whole = partial(answer_logits, model, some, prefix=0)
        return agree(whole, partial(pack_logits, model, pack))


def _forgets(layer: object, longest: int) -> bool:
    """Whether a layer of a cache keeps less than the keys and values of all tokens.

    A window is of the row then, and not of a prompt; recurrent layers run through the row.
    """
    window = getattr(layer, "sliding_window", None)
    return window < longest if window else type(layer) is not DynamicLayer
