"""Passes over the last tokens of prompts alone; what comes before them is computed once and kept.

Where a change of a model acts in the last tokens alone, keys and values of all tokens before them
are those of the untouched model, in every step of its training.
"""

from collections.abc import Sequence
from functools import partial
from itertools import takewhile

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicLayer, PreTrainedModel

from nasalign.inference.batches import HasTokens, in_batches
from nasalign.inference.forward import answer_logits, logits_after, padded_right
from nasalign.inference.prefix import agree, common_beginning, continued, empty_cache, prefix_cache
from nasalign.progress import Progress

KeysAndValues = tuple[Tensor, Tensor]
"""Of one layer and one prompt, each [key heads, T, size]."""


def common_end(prompts: Sequence[HasTokens]) -> tuple[int, ...]:
    """Return the tokens in which all prompts end."""
    columns = zip(*(prompt.token_ids[::-1] for prompt in prompts), strict=False)
    alike = takewhile(lambda column: len(set(column)) == 1, columns)
    return tuple(column[0] for column in alike)[::-1]


class PromptEnds:
    """Runs the last tokens of prompts.

    Args:
        model: the untouched model.
        prompts: whatever is going to be asked.
        sizes: how many tokens at the end of each are run, fewer than it has.
        progress: called after each batch of prompts, whose beginnings are kept.

    Attributes:
        exact: whether these passes give what whole prompts give; else whole prompts are run.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[HasTokens],
        sizes: Sequence[int],
        progress: Progress | None = None,
    ) -> None:
        self.model = model
        self._kept: dict[tuple[int, ...], list[KeysAndValues]] = {}
        self.exact = all(type(one) is DynamicLayer for one in empty_cache(model).layers)
        if self.exact:
            starts = [
                len(prompt.token_ids) - size for prompt, size in zip(prompts, sizes, strict=True)
            ]
            self._keep(prompts, starts, progress)
            self.exact = self._tried(prompts)

    @torch.no_grad()
    def _keep(
        self, prompts: Sequence[HasTokens], starts: Sequence[int], progress: Progress | None
    ) -> None:
        """Run what comes before the last tokens, and keep its keys and values."""
        shared = min(common_beginning(prompts), *starts)

        def work(indices: list[int]) -> None:
            batch = [prompts[index] for index in indices]
            ends = [starts[index] for index in indices]
            ids = padded_right(
                [one.token_ids[shared:end] for one, end in zip(batch, ends, strict=True)]
            )
            cache = prefix_cache(self.model, batch, shared) if shared else empty_cache(self.model)
            if ids.shape[1]:  # padding is on the right, where nothing sees it
                cache = continued(self.model, cache, ids)
            for row, (prompt, end) in enumerate(zip(batch, ends, strict=True)):
                self._kept[prompt.token_ids] = [
                    (layer.keys[row, :, :end].clone(), layer.values[row, :, :end].clone())
                    for layer in cache.layers
                ]

        doing = "running the beginnings of prompts"
        in_batches(self.model, prompts, None, work, progress, doing=doing)

    def logits(self, prompts: Sequence[HasTokens], last: Sequence[int] | None = None) -> Tensor:
        """Return the logits [B, vocabulary] after the last token of prompts; differentiable.

        ``last`` is as of ``answer_logits``: trailing positions of each, within what is run of it.
        """
        if not self.exact:
            return answer_logits(self.model, prompts, last=last)
        kept = [self._kept[prompt.token_ids] for prompt in prompts]
        starts = torch.tensor([one[0][0].shape[1] for one in kept])
        longest = int(starts.max())
        cache = empty_cache(self.model)
        for layer in range(len(kept[0])):
            keys, values = (  # [B, key heads, longest, size], padded on the left
                torch.stack(
                    [
                        functional.pad(one[layer][side], (0, 0, longest - int(start), 0))
                        for one, start in zip(kept, starts, strict=True)
                    ]
                )
                for side in (0, 1)
            )
            cache.update(keys, values, layer)
        ends = [one.token_ids[start:] for one, start in zip(prompts, starts.tolist(), strict=True)]
        size = max(map(len, ends))
        columns = torch.arange(longest + size)
        return logits_after(
            self.model,
            cache,
            ends,
            last,
            attention_mask=(columns >= longest - starts[:, None]).long(),
            position_ids=starts[:, None] + torch.arange(size),
        )

    @torch.no_grad()
    def _tried(self, prompts: Sequence[HasTokens]) -> bool:
        """Whether the shortest and the longest prompt get the logits of whole prompts."""
        by_length = sorted(prompts, key=lambda prompt: len(prompt.token_ids))
        two = [by_length[0], by_length[-1]]
        whole, ends = partial(answer_logits, self.model, two, prefix=0), partial(self.logits, two)
        return agree(whole, ends)
