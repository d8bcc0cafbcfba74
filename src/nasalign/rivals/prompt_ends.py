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
from nasalign.inference.forward import answer_logits, last_logits
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
    """Runs the last S tokens of prompts.

    Args:
        model: the untouched model.
        prompts: whatever is going to be asked; each has more than S tokens.
        size: S.
        progress: called after each batch of prompts, whose beginnings are kept.

    Attributes:
        exact: whether these passes give what whole prompts give; else whole prompts are run.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[HasTokens],
        size: int,
        progress: Progress | None = None,
    ) -> None:
        self.model, self.size = model, size
        self._kept: dict[tuple[int, ...], list[KeysAndValues]] = {}
        self.exact = all(type(one) is DynamicLayer for one in empty_cache(model).layers)
        if self.exact:
            self._keep(prompts, progress)
            self.exact = self._tried(prompts)

    @torch.no_grad()
    def _keep(self, prompts: Sequence[HasTokens], progress: Progress | None) -> None:
        """Run what comes before the last tokens, and keep its keys and values."""
        shared = min(
            common_beginning(prompts), *(len(one.token_ids) - self.size for one in prompts)
        )

        def work(indices: list[int]) -> None:
            batch = [prompts[index] for index in indices]
            starts = [prompt.token_ids[shared : -self.size] for prompt in batch]
            ids = torch.zeros(len(batch), max(map(len, starts)), dtype=torch.long)
            for row, tokens in enumerate(starts):  # padded on the right, which nothing here sees
                ids[row, : len(tokens)] = torch.tensor(tokens)
            cache = prefix_cache(self.model, batch, shared) if shared else empty_cache(self.model)
            if ids.shape[1]:
                cache = continued(self.model, cache, ids)
            for row, prompt in enumerate(batch):
                length = len(prompt.token_ids) - self.size
                self._kept[prompt.token_ids] = [
                    (layer.keys[row, :, :length].clone(), layer.values[row, :, :length].clone())
                    for layer in cache.layers
                ]

        in_batches(
            self.model, prompts, None, work, progress, doing="running the beginnings of prompts"
        )

    def logits(self, prompts: Sequence[HasTokens]) -> Tensor:
        """Return the logits [B, vocabulary] after the last token; differentiable."""
        if not self.exact:
            return answer_logits(self.model, prompts)
        kept = [self._kept[prompt.token_ids] for prompt in prompts]
        lengths = torch.tensor([len(prompt.token_ids) - self.size for prompt in prompts])
        longest = int(lengths.max())
        cache = empty_cache(self.model)
        for layer in range(len(kept[0])):
            keys, values = (  # [B, key heads, longest, size], padded on the left
                torch.stack(
                    [
                        functional.pad(one[layer][side], (0, 0, longest - int(length), 0))
                        for one, length in zip(kept, lengths, strict=True)
                    ]
                )
                for side in (0, 1)
            )
            cache.update(keys, values, layer)
        ids = torch.tensor([prompt.token_ids[-self.size :] for prompt in prompts])
        columns = torch.arange(longest + self.size)
        return last_logits(
            self.model,
            ids,
            cache,
            attention_mask=(columns >= longest - lengths[:, None]).long(),
            position_ids=lengths[:, None] + torch.arange(self.size),
        )

    @torch.no_grad()
    def _tried(self, prompts: Sequence[HasTokens]) -> bool:
        """Whether the shortest and the longest prompt get the logits of whole prompts."""
        by_length = sorted(prompts, key=lambda prompt: len(prompt.token_ids))
        two = [by_length[0], by_length[-1]]
        whole, ends = partial(answer_logits, self.model, two, prefix=0), partial(self.logits, two)
        return agree(whole, ends)
