"""Prompts of many sources in groups that share a beginning, which runs once for each group.

A batch shares what all its prompts begin with (``prefix``). Of prompts from many sources, such as
50 questions about one long text among others, that is little. Here the prompts are put in groups
first, and what a group begins with runs once for all its batches; what groups share, once for all.
"""

from bisect import bisect
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nasalign.inference.batches import CPU_PADDING, HasTokens
from nasalign.inference.forward import answer_logits, prefix_worth_sharing
from nasalign.inference.prefix import Beginnings, alike, common_beginning
from nasalign.inference.scoring import Scores, score_prompts
from nasalign.inference.verdicts import Verdict
from nasalign.models.memory import explained
from nasalign.nas.recorder import NasRecorder
from nasalign.prompts.builder import BinaryPrompt

PASS_TOKENS = 256
"""Tokens that a group of its own must save, since each has passes of its own."""


def tokens_to_run(prompts: Sequence[HasTokens]) -> int:
    """Return the tokens of prompts, those that all of them begin with counted once."""
    shared = common_beginning(prompts) if prompts else 0
    return shared + sum(len(prompt.token_ids) - shared for prompt in prompts)


class TokenTree:
    """Counts the tokens of prompts, those that some of them begin with once."""

    def __init__(self) -> None:
        self.tokens = 0
        self._seen: list[tuple[int, ...]] = []  # in lexicographic order

    def add(self, prompts: Iterable[HasTokens]) -> None:
        """Count some prompts too."""
        for prompt in prompts:
            own = prompt.token_ids
            place = bisect(self._seen, own)
            # In that order, a prompt shares the most with one of its neighbours.
            near = self._seen[max(0, place - 1) : place + 1]
            self.tokens += len(own) - max((alike(own, one) for one in near), default=0)
            self._seen.insert(place, own)


def prefix_groups(prompts: Sequence[HasTokens]) -> list[tuple[list[int], int]]:
    """Put prompts in groups by what they begin with.

    Prompts that share a beginning are a group of their own where that saves ``PASS_TOKENS``.

    Returns:
        The indices of each group, and the number of leading tokens that its prompts share.
    """
    order = sorted(range(len(prompts)), key=lambda index: prompts[index].token_ids)
    # In lexicographic order, prompts share the least that two neighbours among them share.
    shares = [common_beginning([prompts[one], prompts[two]]) for one, two in pairwise(order)]
    groups = []
    waiting = [(0, len(order))] if order else []
    while waiting:
        run = waiting.pop()
        rest = _without_groups(shares, run, waiting)
        if rest:
            members = [order[place] for place in sorted(rest)]
            groups.append((members, common_beginning([prompts[index] for index in members])))
    return groups


def _without_groups(
    shares: list[int], run: tuple[int, int], groups: list[tuple[int, int]]
) -> list[int]:
    """Take the runs that are better groups of their own out of a run; return what is left of it.

    A run is a begin and an end in lexicographic order. Not recursive: it may be nested deeply.
    """
    whole = min(shares[run[0] : run[1] - 1], default=0)
    rest, inside = [], [run]
    while inside:
        begin, end = inside.pop()
        if end - begin == 1:
            rest.append(begin)
            continue
        least = min(shares[begin : end - 1])
        if (end - begin) * (least - whole) - least > PASS_TOKENS:
            groups.append((begin, end))
            continue
        inner = (place + 1 for place in range(begin, end - 1) if shares[place] == least)
        inside += pairwise([begin, *inner, end])
    return rest


@torch.no_grad()
def score_in_groups(model: PreTrainedModel, prompts: Sequence[BinaryPrompt]) -> Scores:
    """Score prompts as ``score_prompts`` does, without their NAS; shared beginnings run once.

    Memory holds the keys and values of one beginning at a time, and those of a batch.

    Raises:
        PromptError: a prompt exceeds the model's context.
        OutOfMemoryError: a single prompt does not fit in memory.
    """
    beginnings = Beginnings(model)
    groups = [
        ([prompts[index] for index in members], members, common)
        for members, common in prefix_groups(prompts)
    ]
    in_order = sorted(groups, key=lambda one: one[0][0].token_ids[: one[2]])
    found = (
        (members, _score_group(model, own, common, beginnings)) for own, members, common in in_order
    )
    return merged(found, len(prompts))


def merged(parts: Iterable[tuple[Sequence[int], Scores]], count: int) -> Scores:
    """Return the scores of all of ``count`` prompts from those of parts, given by their indices."""
    p_positive, p_negative, p_unsure = (torch.zeros(count) for _ in range(3))
    verdicts: dict[int, Verdict] = {}
    unsure = False
    for members, found in parts:
        p_positive[members], p_negative[members] = found.p_positive, found.p_negative
        if found.p_unsure is not None:
            p_unsure[members], unsure = found.p_unsure, True
        verdicts |= dict(zip(members, found.verdicts, strict=True))
    ordered = [verdicts[index] for index in range(count)]
    nas = torch.empty(count, 0, 0)
    return Scores(p_positive, p_negative, ordered, nas, p_unsure=p_unsure if unsure else None)


def _score_group(
    model: PreTrainedModel, prompts: list[BinaryPrompt], common: int, beginnings: Beginnings
) -> Scores:
    """Score prompts that share their first tokens."""
    with explained("scoring", model, common):
        prefix = prefix_worth_sharing(model, prompts, common)
        cache = beginnings.cache(prompts[0].token_ids[:prefix]) if prefix else None

    def logits_of(indices: list[int], recorder: NasRecorder | None) -> Tensor:
        batch = [prompts[index] for index in indices]
        return answer_logits(model, batch, recorder, prefix, shared=cache)

    # An accelerator is hardly slower by padding, and much by another pass.
    padding = CPU_PADDING if model.device.type == "cpu" else None
    return score_prompts(model, prompts, record=False, logits_of=logits_of, padding=padding)
