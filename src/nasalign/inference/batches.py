"""Prompts in batches, and what they share whatever is done with them."""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, runtime_checkable

from accelerate.utils.memory import clear_device_cache
from transformers import PreTrainedModel

from nasalign.errors import PromptError
from nasalign.models import processes
from nasalign.models.loading import context_length
from nasalign.models.memory import explained, is_out_of_memory
from nasalign.progress import Progress

CPU_TOKENS = 4096
"""Tokens of a batch on a CPU: enough for its matrix multiplication to be at its best."""
ACCELERATOR_TOKENS = 32_768
"""The same on an accelerator; what does not fit is halved."""


class HasTokens(Protocol):
    """Anything that a model can read."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Its T tokens."""


@runtime_checkable
class HasRows(HasTokens, Protocol):
    """A prompt whose positions from ``first_row`` on are needed too, not its last one alone."""

    @property
    def first_row(self) -> int:
        """Index of the first such position; a shared prefix ends before it."""


class HasWords(HasRows, Protocol):
    """A prompt of which NAS can be recorded."""

    @property
    def positive_position(self) -> int:
        """Index of the positive word (t_yes of Eq. 1)."""

    @property
    def negative_position(self) -> int:
        """Index of the negative word (t_no)."""


def sorted_batches(
    prompts: Sequence[HasTokens], batch_size: int | None, tokens: int = CPU_TOKENS
) -> list[list[int]]:
    """Returns the indices of prompts in batches of like length, the longest first.

    Of several processes each gets its own prompts.

    Args:
        prompts: what is to be batched.
        batch_size: prompts a batch; None takes as many as ``tokens`` allows, one at least.
        tokens: tokens a batch at most, padding included.
    """
    own = filter(processes.mine, range(len(prompts)))
    order = sorted(own, key=lambda index: -len(prompts[index].token_ids))
    batches: list[list[int]] = []
    start = 0
    while start < len(order):
        longest = max(1, len(prompts[order[start]].token_ids))
        size = batch_size or max(1, tokens // longest)
        batches.append(order[start : start + size])
        start += size
    return batches


def in_batches(
    model: PreTrainedModel,
    prompts: Sequence[HasTokens],
    batch_size: int | None,
    work: Callable[[list[int]], None],
    progress: Progress | None = None,
    *,
    doing: str,
) -> None:
    """Has all prompts worked on, batch by batch; a batch that memory does not hold is halved.

    Args:
        model: its device decides how many tokens a batch has where ``batch_size`` is None.
        prompts: what is to be worked on.
        batch_size: see ``sorted_batches``.
        work: is given the indices of a batch; what it did before memory ran out is done again.
        progress: told after each batch.
        doing: what the work is, for the sentence of the error.

    Raises:
        OutOfMemoryError: memory does not hold a single one.
    """
    tokens = CPU_TOKENS if model.device.type == "cpu" else ACCELERATOR_TOKENS
    waiting = deque(sorted_batches(prompts, batch_size, tokens))
    while waiting:
        indices = waiting.popleft()
        with explained(doing, model, len(prompts[indices[0]].token_ids)):  # the longest
            again = halved(partial(work, indices), len(indices))
        if again:
            # What waits is not longer, but may be as wide.
            waiting.appendleft(indices)
            waiting = deque(half for batch in waiting for half in halves(batch))
        elif progress:
            progress(len(indices) * processes.shares())  # the others are about as far


def halved(work: Callable[[], None], size: int) -> bool:
    """Does some work, and says whether memory ran out so that it must be halved.

    Raises:
        RuntimeError: memory ran out for a single item, or something else went wrong.
        MemoryError: the same, of Python's own memory.
    """
    try:
        work()
        return False
    except (RuntimeError, MemoryError) as error:
        if size <= 1 or not is_out_of_memory(error):
            raise
    clear_device_cache(garbage_collection=True)  # only now, when the error holds no tensor
    return True


def halves(batch: list[int]) -> list[list[int]]:
    """Returns the two halves of a batch; the batch itself if it is a single item."""
    middle = (len(batch) + 1) // 2
    return [part for part in (batch[:middle], batch[middle:]) if part]


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
