"""The token ids of a prompt, in which text that somebody wrote stays text.

A tokenizer reads ``<|im_end|>`` as the end of a turn wherever it stands. In a question, an answer
or a context it must be plain text: otherwise a row of data could speak as the system or assistant.
"""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerBase

from nasalign.errors import PromptError

Span = tuple[int, int]


@dataclass(frozen=True)
class Encoder:
    """Turns prompts into token ids."""

    tokenizer: PreTrainedTokenizerBase  # a fast one
    special: bool  # add its special tokens; the text of a chat template already has them

    def __call__(
        self, text: str, written: Sequence[str] | Sequence[Span]
    ) -> tuple[list[int], list[Span]]:
        """Return the T token ids of a prompt, and the span of characters of each.

        Its parts that do not come from a template are ``written``, in their order: as texts, or as
        spans of characters. If one holds a special token, the prompt is encoded again with that
        token as text; PromptError if none can. A token for the end of a text, which some tokenizers
        add, is left out: the answer follows.
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
        spans = self._spans(text, written)
        if self._mark_in(spans, text, ids, offsets):
            ids, offsets = self._read_as_text(text, spans)
            mark = self._mark_in(spans, text, ids, offsets)
            if mark:  # the vocabulary itself has it, not only the list of special tokens
                raise _unreadable(mark)
        while self.special and len(ids) > 1 and self._is_added(ids[-1], offsets[-1]):
            ids, offsets = ids[:-1], offsets[:-1]
        return ids, offsets

    def _is_added(self, number: int, span: Span) -> bool:
        """Whether a token is a special one that stands for no character of the text."""
        return span[0] == span[1] and number in self.tokenizer.all_special_ids

    @cached_property
    def _marks(self) -> dict[int, AddedToken]:
        """Special tokens by id, and those that the chat template writes though they are not."""
        template = str(self.tokenizer.chat_template or "")
        return {
            number: token
            for number, token in self.tokenizer.added_tokens_decoder.items()
            if token.special or (token.content.strip() and token.content in template)
        }

    def _spans(self, text: str, written: Sequence[str] | Sequence[Span]) -> list[Span]:
        """Where the written parts stand in the text; a part that a template rewrote has no span."""
        spans, place = [], 0
        for part in written:
            if not isinstance(part, str):
                spans.append(part)
                continue
            start = text.find(part, place)
            if start >= 0:
                place = start + len(part)
                spans.append((start, place))
                continue
            for mark in self._marks.values():
                if mark.content in part:
                    raise PromptError(
                        f"A question or an answer holds {mark.content!r}, and the chat template "
                        "rewrites it, so that it cannot be read as text; take it out, or set "
                        "chat=false."
                    )
        return spans

    def _mark_in(
        self, spans: list[Span], text: str, ids: list[int], offsets: list[Span]
    ) -> str | None:
        """The first mark that the tokenizer has read in one of the spans, or None."""
        unknown = self.tokenizer.unk_token_id
        for number, (begin, end) in zip(ids, offsets, strict=True):
            if number not in self._marks or begin == end:
                continue
            mark = self._marks[number].content
            # The id of "<unk>" also stands for every character that the vocabulary lacks.
            if number == unknown and text[begin:end].strip() != mark:
                continue
            if any(begin < stop and end > start for start, stop in spans):
                return mark
        return None

    def _read_as_text(self, text: str, spans: list[Span]) -> tuple[list[int], list[Span]]:
        """Encode a prompt in which only the marks outside the spans are marks."""
        marks = tuple(sorted(self._marks.items(), key=lambda item: -len(item[1].content)))
        reader, stand_ins = _plain_reader(self.tokenizer, marks)
        used = next((sign for sign in stand_ins.values() if sign in text), None)
        if used:
            raise _unreadable(used)
        pattern = re.compile("|".join(map(re.escape, stand_ins)))
        edges = [0, *(edge for span in spans for edge in span), len(text)]
        pieces = [text[start:stop] for start, stop in pairwise(edges)]
        # The pieces alternate: template, written part, template, ...
        pieces[::2] = [pattern.sub(lambda it: stand_ins[it[0]], one) for one in pieces[::2]]
        read = reader.encode("".join(pieces), add_special_tokens=self.special)
        numbers = {reader.token_to_id(stand_ins[mark.content]): number for number, mark in marks}
        return [numbers.get(number, number) for number in read.ids], list(read.offsets)


def _unreadable(mark: str) -> PromptError:
    return PromptError(
        f"The question, its context or its answer holds {mark!r}, which the tokenizer cannot read "
        "as text; take it out."
    )


@lru_cache(maxsize=4)
def _plain_reader(
    tokenizer: PreTrainedTokenizerBase, marks: tuple[tuple[int, AddedToken], ...]
) -> tuple[Tokenizer, dict[str, str]]:
    """A copy of the tokenizer that reads every mark as text, and what stands in for each mark.

    A stand-in repeats a private-use character as often as its mark has characters: the offsets of
    all tokens then are those of the original text.
    """
    reader = copy.deepcopy(tokenizer.backend_tokenizer)
    reader.no_truncation()
    reader.no_padding()
    reader.encode_special_tokens = True
    stand_ins = {
        mark.content: chr(0x100000 + index) * len(mark.content)
        for index, (_, mark) in enumerate(marks)
    }
    reader.add_special_tokens(
        [AddedToken(content, special=True, normalized=False) for content in stand_ins]
    )
    reader.add_tokens(
        [
            AddedToken(stand_ins[it.content], lstrip=it.lstrip, rstrip=it.rstrip, normalized=False)
            for _, it in marks
        ]
    )
    return reader, stand_ins
