"""Prompts in batches by length, halved where memory runs out."""

import random
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, takewhile
from typing import Protocol, runtime_checkable

from accelerate.utils.memory import clear_device_cache
from transformers import PreTrainedModel

from nasalign.errors import PromptError
from nasalign.models import processes
from nasalign.models.loading import context_length
from nasalign.models.memory import explained, is_out_of_memory
from nasalign.progress import Progress

CPU_TOKENS = 4096
"""Tokens of a batch on a CPU: enough for full speed of its matrix multiplication."""
ACCELERATOR_TOKENS = 32_768
"""Tokens of a batch on an accelerator; one that does not fit is halved."""

CPU_PADDING = 64
"""Padding of a batch that is scored on a CPU, in tokens: more costs more than another pass."""

ALIKE = 10
"""Batches' worth of samples that are drawn at once and sorted by length."""


class HasTokens(Protocol):
    """A tokenised prompt."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Its T tokens."""


@runtime_checkable
class HasRows(HasTokens, Protocol):
    """A prompt whose positions from ``first_row`` on are needed too, not its last one alone."""

    @property
    def first_row(self) -> int:
        """Index of the first such position; a shared prefix ends before it."""


def tokens_of_batch(model: PreTrainedModel) -> int:
    """Return how many tokens a batch has on the model's device, padding included."""
    return CPU_TOKENS if model.device.type == "cpu" else ACCELERATOR_TOKENS


def sorted_batches(
    prompts: Sequence[HasTokens],
    batch_size: int | None,
    tokens: int = CPU_TOKENS,
    padding: int | None = None,
) -> list[list[int]]:
    """Return the indices of this process's prompts in batches of similar length, longest first.

    A batch has ``batch_size`` prompts, or as many as ``tokens`` and ``padding``, the tokens of its
    padding at most, allow, but one at least. Longest first, so that memory runs out at once or not
    at all.
    """
    own = filter(processes.mine, range(len(prompts)))
    order = sorted(own, key=lambda index: -len(prompts[index].token_ids))
    batches: list[list[int]] = []
    start = 0
    while start < len(order):
        longest = max(1, len(prompts[order[start]].token_ids))
        batch = order[start : start + (batch_size or max(1, tokens // longest))]
        if padding is not None:
            filled = accumulate(longest - len(prompts[one].token_ids) for one in batch)
            batch = batch[: sum(1 for _ in takewhile(padding.__ge__, filled))]
        batches.append(batch)
        start += len(batch)
    return batches


def shuffled_batches(lengths: Sequence[int], size: int, rng: random.Random) -> list[list[int]]:
    """Return the indices of samples in batches of like length, which are little padded.

    Which samples meet in a batch is random, within ``ALIKE`` batches, and so is the order.

    Args:
        lengths: of the samples, in tokens.
        size: samples of a batch.
        rng: draws.
    """
    places = list(range(len(lengths)))
    rng.shuffle(places)
    batches: list[list[int]] = []
    for start in range(0, len(places), ALIKE * size):
        pool = sorted(places[start : start + ALIKE * size], key=lambda place: lengths[place])
        batches += [pool[at : at + size] for at in range(0, len(pool), size)]
    rng.shuffle(batches)
    return batches


def in_batches(
    model: PreTrainedModel,
    prompts: Sequence[HasTokens],
    batch_size: int | None,
    work: Callable[[list[int]], None],
    progress: Progress | None = None,
    *,
    doing: str,
    padding: int | None = None,
) -> None:
    """Call ``work`` with the indices of each batch; one that does not fit in memory is halved.

    The model's device decides the tokens of a batch where ``batch_size`` is None; a batch has no
    more tokens of ``padding``, where that is given. Raise OutOfMemoryError, which names what it was
    ``doing``, if a single prompt does not fit.
    """
    waiting = deque(sorted_batches(prompts, batch_size, tokens_of_batch(model), padding))
    while waiting:
        indices = waiting.popleft()
        with explained(doing, model, len(prompts[indices[0]].token_ids)):  # the longest
            again = halved(partial(work, indices), len(indices))
        if again:
            # The other batches are no longer, but may have as many tokens.
            waiting.appendleft(indices)
            waiting = deque(half for batch in waiting for half in halves(batch))
        elif progress:
            progress(len(indices) * processes.shares())  # the others are about as far


def halved(work: Callable[[], None], size: int) -> bool:
    """Do some work on ``size`` items; return whether memory ran out and they must be halved.

    Raises what the work raises if it is another error, or if there is a single item.
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
    """Return the two halves of a batch, or a single item as it is."""
    middle = (len(batch) + 1) // 2
    return [part for part in (batch[:middle], batch[middle:]) if part]


def check_lengths(model: PreTrainedModel, prompts: Sequence[HasTokens], more: int = 0) -> None:
    """Raise PromptError if a prompt with ``more`` tokens exceeds the model's context."""
    limit = context_length(model)
    for number, prompt in enumerate(prompts, start=1):
        if limit is not None and len(prompt.token_ids) + more > limit:
            raise PromptError(
                f"Prompt {number} of {len(prompts)} has {len(prompt.token_ids) + more} tokens, "
                f"more than the model's context of {limit}; shorten its context or question."
            )
