"""NAS (Eq. 1) of any text in which two answer words stand, for researchers of attention heads."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.errors import PromptError, shortened
from nasalign.inference.batches import check_lengths, in_batches
from nasalign.inference.forward import answer_logits
from nasalign.models import processes
from nasalign.nas.recorder import NasRecorder
from nasalign.prompts.locating import check_offsets, locate_word

_SENTENCE_END = re.compile(r"[.?!](?=\s|$)|\n")


@dataclass(frozen=True)
class MarkedText:
    """The tokens of a text, and where Eq. 1 reads them."""

    token_ids: tuple[int, ...]
    positive_position: int  # index of the positive word's first token (t_yes)
    negative_position: int  # index of the negative word's first token (t_no)
    first_row: int  # index of the first row of the sum (L_I)


class TextRecorder:
    """Scores texts while ``record_nas`` holds the model."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, words: tuple[str, str], recorder: NasRecorder
    ) -> None:
        self._tokenizer, self._words, self._recorder = tokenizer, words, recorder

    @torch.no_grad()
    def score(
        self,
        texts: Sequence[str],
        start: int | Sequence[int] | None = None,
        *,
        positions: Sequence[tuple[int, int]] | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Return the NAS of each text and head (Eq. 1), [N, layers, heads], on the CPU.

        It is float32, or float64 of a float64 model; NaN where a layer has no such head. A text is
        read as it is: special tokens are added as the tokenizer does by default, unless the text
        holds some already, as one does that a chat template has rendered.

        Args:
            texts: N texts. Eq. 1 reads the attention to the first occurrence of each word as a word
                of its own, and both must stand in one sentence, the instruction.
            start: character at which the rows of the sum begin, of all texts or of each; after the
                instruction unless given.
            positions: characters at which the positive and the negative word begin in each text,
                where the first occurrences are not meant.
            batch_size: texts a batch; by tokens unless given.

        Raises:
            PromptError: a word is not found, is ambiguous, or has no token of its own; no row
                follows; or a text exceeds the model's context.
            RuntimeError: ``record_nas`` has ended.
        """
        if not self._recorder.entered:
            raise RuntimeError(
                "the recorder has ended; call score inside of `with record_nas(...)`"
            )
        starts = [start] * len(texts) if start is None or isinstance(start, int) else start
        places = [None] * len(texts) if positions is None else positions
        marked = [
            self._marked(*one)
            for one in zip(range(1, len(texts) + 1), texts, places, starts, strict=True)
        ]
        model, blank = self._recorder.model, self._recorder.blank
        check_lengths(model, marked)
        nas = torch.zeros(len(texts), *blank.shape, dtype=blank.dtype)

        def work(indices: list[int]) -> None:
            answer_logits(model, [marked[index] for index in indices], self._recorder)
            nas[indices] = self._recorder.nas.cpu()

        in_batches(model, marked, batch_size, work, doing="recording the NAS")
        processes.add_up(nas)
        return nas

    def _marked(
        self, number: int, text: str, places: tuple[int, int] | None, start: int | None
    ) -> MarkedText:
        """Locate the words and the first row of one text; ``number`` is for messages."""
        name = f"text {number} ({shortened(text, 60)})"
        if places is None:
            places = self._places(name, text, start)
        if start is None:
            start = _sentence(text, places)[1]
        marked = any(mark in text for mark in self._tokenizer.all_special_tokens)
        encoded = self._tokenizer(text, add_special_tokens=not marked, return_offsets_mapping=True)
        ids, spans = encoded["input_ids"], encoded["offset_mapping"]
        # The space before a word belongs to its token in most tokenizers.
        later = (
            index
            for index, (begin, end) in enumerate(spans)
            if end > max(begin, start) and not text[begin:start].strip()
        )
        first_row = next(later, None)
        if first_row is None:
            raise PromptError(f"In {name} no token follows the instruction, so Eq. 1 has no rows.")
        positive, negative = (
            locate_word(self._tokenizer, word, place, ids, spans, text)
            for word, place in zip(self._words, places, strict=True)
        )
        return MarkedText(tuple(ids), positive, negative, first_row)

    def _places(self, name: str, text: str, start: int | None) -> tuple[int, int]:
        """Return the character at which each word first stands as a word of its own."""
        found = [
            [one.start() for one in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", text)]
            for word in self._words
        ]
        for word, starts in zip(self._words, found, strict=True):
            if not starts:
                raise PromptError(f"The word {word!r} does not stand in {name}.")
        places = found[0][0], found[1][0]
        begin, end = _sentence(text, places) if start is None else (0, start)
        inside = [[place for place in starts if begin <= place < end] for starts in found]
        for word, own in zip(self._words, inside, strict=True):
            if len(own) != 1:
                where = "in the sentence of the first" if start is None else "before start"
                raise PromptError(
                    f"In {name} the word {word!r} stands {len(own)} times {where}, where once is "
                    "expected; say which one is meant by positions."
                )
        return places


@contextmanager
def record_nas(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    words: tuple[str, str] = ("Yes", "No"),
) -> Iterator[TextRecorder]:
    """Record the NAS (Eq. 1) of any texts with two answer words. ::

        with nasalign.record_nas(model, tokenizer) as recorder:
            nas = recorder.score(["Answer Yes or No. Is Paris in France?"])  # [1, layers, heads]

    Meanwhile the model runs with a registered attention function whose outputs are the same; it has
    its own back at the end, also after an error.

    Args:
        model: a supported model.
        tokenizer: its tokenizer, a fast one.
        words: the positive and the negative word, as they stand in the texts.

    Raises:
        PromptError: the tokenizer gives no character offsets.
        ModelError: the architecture is not supported.
    """
    check_offsets(tokenizer)
    with NasRecorder(model) as recorder:
        yield TextRecorder(tokenizer, words, recorder)


def _sentence(text: str, places: tuple[int, int]) -> tuple[int, int]:
    """Return the first and one past the last character of the sentence at the earlier place."""
    ends = [found.end() for found in _SENTENCE_END.finditer(text)]
    begin = max((end for end in ends if end <= min(places)), default=0)
    return begin, min((end for end in ends if end > min(places)), default=len(text))
