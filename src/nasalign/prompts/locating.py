"""Where words of a text stand among its tokens."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from nasalign.errors import PromptError, shortened
from nasalign.prompts.answer_tokens import first_characters
from nasalign.prompts.encoding import Span


def token_after(offsets: Sequence[Span], end: int) -> int:
    """Return the first token that begins at a character or later; the last one if none does."""
    later = (index for index, (begin, stop) in enumerate(offsets) if stop > begin >= end)
    return next(later, len(offsets) - 1)


def check_offsets(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer by which no word of a text can be located.

    Raises:
        PromptError: it gives no character offsets.
    """
    if not tokenizer.is_fast:
        raise PromptError(
            f"The tokenizer {type(tokenizer).__name__} gives no character offsets, so the answer "
            "words cannot be located; use a fast tokenizer."
        )


def locate_word(
    tokenizer: PreTrainedTokenizerBase,
    word: str,
    place: int,
    ids: Sequence[int],
    offsets: Sequence[Span],
    text: str,
) -> int:
    """Return the index of the token in which a word at a character begins, checked by decoding."""
    covering = (i for i, (begin, end) in enumerate(offsets) if begin <= place < end)
    index = next(covering, -1)
    decoded = first_characters(tokenizer, ids[index:]) if index >= 0 else ""
    if not decoded or not word.startswith(decoded):
        raise PromptError(
            f"The answer word {word!r} has no token of its own: the tokenizer reads "
            f"{decoded!r} there, in the prompt {shortened(text)}."
        )
    return index
