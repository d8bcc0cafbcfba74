"""Prompts in batches, and what they share whatever is done with them."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from transformers import PreTrainedModel

from nasalign.errors import PromptError
from nasalign.models.loading import context_length


class HasTokens(Protocol):
    """Anything that a model can read."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Its T tokens."""


def sorted_batches(prompts: Sequence[HasTokens], batch_size: int) -> Iterator[list[int]]:
    """Yields the indices of prompts in batches of like length, the longest first."""
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index].token_ids))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def check_lengths(model: PreTrainedModel, prompts: Sequence[HasTokens], more: int = 0) -> None:
    """Refuses prompts that, with ``more`` tokens, exceed the model's context.

    Raises:
        PromptError: names the first such prompt and its length.
    """
    limit = context_length(model)
    for number, prompt in enumerate(prompts, start=1):
        if limit is not None and len(prompt.token_ids) + more > limit:
            raise PromptError(
                f"Prompt {number} of {len(prompts)} has {len(prompt.token_ids) + more} tokens, "
                f"more than the model's context of {limit}; shorten its context or question."
            )
