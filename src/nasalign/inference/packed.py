"""Prompts packed in one row of tokens, in which what several of them begin with stands once.

The two prompts of a pair differ in the answer that they ask about, so they share the question too,
and not the instruction alone, which is all that a batch shares (``prefix``). Here the tokens of all
prompts form a tree: each token sees the tokens of its own prompt before it, at their positions
there. This is exact where attention is all that mixes tokens, and reads no further than its mask;
``packs_exactly`` tries it out.

A training step is one row, without padding, and one pass in place of two. Many prompts are scored
in batches of rows after a prefix that all of them share (``packed_batches``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, DynamicLayer, PreTrainedModel

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
        paths: of each prompt, the places of its tokens.
    """

    token_ids: tuple[int, ...]
    positions: Tensor
    paths: list[Tensor]

    @property
    def sees(self) -> Tensor:
        """Whether the token of a row sees that of a column, bool [K, K]."""
        size = len(self.token_ids)
        sees = torch.zeros(size, size, dtype=torch.bool)
        for path in self.paths:
            sees[path[:, None], path] |= torch.ones(len(path), len(path), dtype=torch.bool).tril()
        return sees


def packed(prompts: Sequence[HasTokens]) -> Pack | None:
    """Pack prompts in one row; return None if it would have more than ``MOST_TOKENS``."""
    pack = in_a_row(prompts)
    return None if len(pack.token_ids) > MOST_TOKENS else pack


def in_a_row(prompts: Sequence[HasTokens]) -> Pack:
    """Pack prompts in one row, however long it is."""
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
    places = [torch.tensor(paths[index]) for index in range(len(prompts))]
    return Pack(tuple(tokens), torch.tensor(positions), places)


def rows_of(packs: Sequence[Pack]) -> Tensor:
    """Return the row of each prompt where each pack is a row of a batch, int64 [N]."""
    return torch.tensor([row for row, pack in enumerate(packs) for _ in pack.paths])


def pack_logits(
    model: PreTrainedModel,
    packs: Sequence[Pack],
    last: Sequence[int] | None = None,
    cache: Cache | None = None,
    prefix: int = 0,
) -> Tensor:
    """Return the logits [N, vocabulary] after the last token of each prompt of some packs.

    Args:
        model: differentiable where its parameters are.
        packs: B rows with N prompts.
        last: trailing positions per prompt to return logits for, as of ``answer_logits``.
        cache: what the first tokens of the packs left, which all of them share.
        prefix: number P of these tokens.
    """
    paths = [path for pack in packs for path in pack.paths]
    counts = last or [1] * len(paths)
    ends = [path[-count:] for path, count in zip(paths, counts, strict=True)]
    width = max(len(pack.token_ids) for pack in packs)
    ids, positions = (torch.zeros(len(packs), width, dtype=torch.long) for _ in range(2))
    # Padding sees itself: with nothing that it sees, attention may be NaN in half precision.
    sees = torch.eye(width, dtype=torch.bool).repeat(len(packs), 1, 1)
    for row, pack in enumerate(packs):
        size = len(pack.token_ids)
        ids[row, :size] = torch.tensor(pack.token_ids)
        positions[row, :size] = pack.positions
        sees[row, :size, :size] = pack.sees
    mask = torch.zeros(len(packs), 1, width - prefix, width, dtype=model.dtype)
    mask.masked_fill_(~sees[:, None, prefix:], torch.finfo(model.dtype).min)
    return logits_at(
        model,
        rows_of(packs).repeat_interleave(torch.tensor(counts)),
        torch.cat(ends) - prefix,
        input_ids=ids[:, prefix:],
        attention_mask=mask,
        position_ids=positions[:, prefix:],
        past_key_values=cache,
        use_cache=cache is not None,
    )


def packed_logits(model: PreTrainedModel, prompts: Sequence[HasTokens]) -> Tensor:
    """Return the logits [B, vocabulary] after the last token of prompts that ``packs_exactly``.

    They run in a row, or as ``answer_logits`` runs them where it would be too long.
    """
    pack = packed(prompts)
    return answer_logits(model, prompts) if pack is None else pack_logits(model, [pack])


def packs_exactly(
    model: PreTrainedModel, prompts: Sequence[HasTokens], most: int | None = None
) -> bool:
    """Whether prompts get the same logits packed in a row as one by one.

    The longest prompt decides, with its neighbours by tokens and the shortest. False where these
    have more than ``most`` tokens in a row (``MOST_TOKENS`` unless given): nothing is tried then.
    """
    longest = max(len(prompt.token_ids) for prompt in prompts)
    if any(_forgets(layer, longest) for layer in DynamicCache(config=model.config).layers):
        return False
    order = sorted(prompts, key=lambda prompt: prompt.token_ids)
    place = max(range(len(order)), key=lambda place: len(order[place].token_ids))
    some = [*order[max(0, place - 1) : place + 1], min(order, key=lambda one: len(one.token_ids))]
    pack = in_a_row(some)
    if len(pack.token_ids) > (most or MOST_TOKENS):
        return False
    with torch.no_grad():
        whole = partial(answer_logits, model, some, prefix=0)
        return agree(whole, partial(pack_logits, model, [pack]))


def _forgets(layer: object, longest: int) -> bool:
    """Whether a layer of a cache keeps less than the keys and values of all tokens.

    A window is of the row then, and not of a prompt; recurrent layers run through the row.
    """
    window = getattr(layer, "sliding_window", None)
    return window < longest if window else type(layer) is not DynamicLayer
