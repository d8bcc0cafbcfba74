"""The token ids of a prompt, in which what somebody wrote stays text.

A tokenizer reads ``<|im_end|>`` as the end of a turn wherever it stands. In a question, an answer
or a context it is text like any other: else a row of data could speak as the system or assistant.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerBase

from nasalign.errors import PromptError

Span = tuple[int, int]
_FENCE = "\U0010fffd\U0010fffc\U0010fffd"
"""Stands for the mark before a text that is read on its own: it does not begin the prompt."""


@dataclass(frozen=True)
class Encoder:
    """Turns prompts into token ids.

    Attributes:
        tokenizer: the model's tokenizer, a fast one.
        special: whether it adds its special tokens, which the text of a chat template holds.
    """

    tokenizer: PreTrainedTokenizerBase
    special: bool

    def __call__(self, text: str, written: Sequence[str]) -> tuple[list[int], list[Span]]:
        """Returns the T token ids of a prompt, and the characters that each is from.

        Args:
            text: the whole prompt.
            written: the parts of it that are no template's, in their order. Where one holds what
                the tokenizer takes for a mark, it is read again as text; all else is as it was.

        Raises:
            PromptError: a part cannot be read as text, or holds what is no character.
        """
        try:
            encoded = self.tokenizer(
                text, add_special_tokens=self.special, return_offsets_mapping=True
            )
        except (TypeError, UnicodeError) as error:
            raise PromptError(
                "The question, its context or its answer holds half a character (a lone UTF-16 "
                "surrogate), which no tokenizer reads; write it as valid Unicode."
            ) from error
        ids, offsets = list(encoded["input_ids"]), list(encoded["offset_mapping"])
        place = 0
        for part in written:
            start = text.find(part, place)
            if start < 0:
                self._check_absent(part)
                continue
            place = start + len(part)
            if self._marked(text, ids, offsets, (start, place)):
                ids, offsets = self._read_again(text, ids, offsets, (start, place))
        return ids, offsets

    @cached_property
    def _marks(self) -> dict[int, str]:
        """Special tokens by id, and those that the chat template writes though they are not."""
        template = str(self.tokenizer.chat_template or "")
        return {
            number: token.content
            for number, token in self.tokenizer.added_tokens_decoder.items()
            if token.special or (token.content.strip() and token.content in template)
        }

    def _marked(self, text: str, ids: list[int], offsets: list[Span], part: Span) -> str | None:
        """The first mark that the tokenizer has read in a part of the text, if there is one."""
        unknown = self.tokenizer.unk_token_id
        for number, (begin, end) in zip(ids, offsets, strict=True):
            if number not in self._marks or end <= part[0] or begin >= part[1] or begin == end:
                continue
            mark = self._marks[number]
            if number != unknown or text[begin:end].strip() == mark:  # else an unknown sign
                return mark
        return None

    def _read_again(
        self, text: str, ids: list[int], offsets: list[Span], part: Span
    ) -> tuple[list[int], list[Span]]:
        """Reads the text between the marks around a part as text; what is outside stays."""
        before, after = self._around(ids, offsets, part)
        start = offsets[before - 1][1] if before and offsets[before - 1][1] <= part[0] else 0
        ends = after < len(ids) and offsets[after][0] < offsets[after][1]
        end = offsets[after][0] if ends else len(text)
        reader, fence = _plain_reader(self.tokenizer, tuple(sorted(self._marks.values())))
        shift = len(_FENCE) if start else 0
        read = reader.encode(_FENCE[:shift] + text[start:end], add_special_tokens=False)
        first = 1 if start else 0
        fresh = list(read.ids[first:])
        places = [(begin - shift + start, stop - shift + start) for begin, stop in read.offsets]
        places = places[first:]
        mark = "" if fence in fresh else self._marked(text, fresh, places, part)
        if mark is not None:
            raise PromptError(
                f"The question, its context or its answer holds {mark or _FENCE!r}, which the "
                "tokenizer cannot read as text; take it out."
            )
        return [*ids[:before], *fresh, *ids[after:]], [*offsets[:before], *places, *offsets[after:]]

    def _around(self, ids: list[int], offsets: list[Span], part: Span) -> tuple[int, int]:
        """Where the tokens between the last mark before a part and the next one after it lie."""
        before, after = 0, len(ids)
        for index, (begin, end) in enumerate(offsets):
            if ids[index] not in self._marks:
                continue
            if begin == end:  # added by the tokenizer, at either end
                head = all(one == other for one, other in offsets[: index + 1])
                before, after = (index + 1, after) if head else (before, min(after, index))
            elif end <= part[0]:
                before = index + 1
            elif begin >= part[1]:
                after = min(after, index)
        return before, after

    def _check_absent(self, part: str) -> None:
        """Refuses a part that a template has rewritten, if it could hold a mark."""
        for mark in self._marks.values():
            if mark in part:
                raise PromptError(
                    f"A question or an answer holds {mark!r}, and the chat template rewrites it, "
                    "so that it cannot be read as text; take it out, or set chat=false."
                )


@lru_cache(maxsize=4)
def _plain_reader(
    tokenizer: PreTrainedTokenizerBase, marks: tuple[str, ...]
) -> tuple[Tokenizer, int]:
    """A copy of the tokenizer that knows no mark but the fence, and the fence's id."""
    reader = copy.deepcopy(tokenizer.backend_tokenizer)
    reader.no_truncation()
    reader.no_padding()
    reader.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    reader.add_tokens([AddedToken(_FENCE, special=False, normalized=False)])
    reader.encode_special_tokens = True
    return reader, int(reader.token_to_id(_FENCE))
