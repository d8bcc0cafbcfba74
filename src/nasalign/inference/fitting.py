"""Which rows have prompts that the model can read; the others are left out before it is asked."""

from collections.abc import Callable, Sequence

from transformers import PreTrainedModel

from nasalign.data.reading import Dropped
from nasalign.data.records import Record, place_name
from nasalign.errors import PromptError
from nasalign.models.loading import context_length


def unfit_records(
    model: PreTrainedModel,
    records: Sequence[Record],
    tokens_of: Callable[[int], int],
    *,
    strict: bool,
) -> tuple[set[int], Dropped]:
    """Find the records whose prompts are too long, or cannot be made.

    Args:
        model: its configuration says how many positions it has.
        records: what the prompts are made of.
        tokens_of: tokens of the longest prompt of a record, by its index, and of the answer to it;
            raises PromptError where a prompt cannot be made.
        strict: whether to raise for the first one.

    Returns:
        Their indices, and the same as rows that are left out.

    Raises:
        PromptError: a record is unfit and ``strict`` is set, or all of them are.
    """
    limit, unfit, dropped = context_length(model), set(), Dropped()
    first: PromptError | None = None
    for index, record in enumerate(records):
        reason = "its prompt cannot be read as it is meant"
        try:
            tokens = tokens_of(index)
            if limit is None or tokens <= limit:
                continue
            reason = f"its prompt is longer than the model's context of {limit} tokens"
            error = PromptError(
                f"{place_name(record)}: its prompt has {tokens} tokens, more than the model's "
                f"context of {limit}; shorten its context or question."
            )
        except PromptError as failed:
            error = failed
        if strict:
            raise error
        first = first or error
        unfit.add(index)
        dropped.add(reason, place_name(record), str(error))
    if first and len(unfit) == len(records):
        raise first
    return unfit, dropped
