"""The tokens by which an answer to a prompt can begin."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from nasalign.errors import PromptError, shortened


@dataclass(frozen=True)
class AnswerTokens:
    """The tokens by which an answer to one prompt can begin.

    Attributes:
        positive: first-token ids of the positive word's surface forms ("Yes", " Yes", "yes", ...).
        negative: the same of the negative word; no id is in both.
        target: first-token id of the positive word as the model's turn begins with it.
        other_target: the same of the negative word; None if it begins with no token of its own.
        unsure: as ``positive``, of "I don't know" where the instruction allows it; else none.
    """

    positive: tuple[int, ...]
    negative: tuple[int, ...]
    target: int
    other_target: int | None
    unsure: tuple[int, ...] = ()

    def mirrored(self) -> "AnswerTokens":
        """Returns the same with the two answer words in each other's place.

        Raises:
            PromptError: the negative word begins with no token of its own.
        """
        if self.other_target is None:
            raise PromptError(
                "The negative answer does not begin with a token of its own, so a lean to the "
                "positive one cannot be corrected; take direction=negative."
            )
        return replace(
            self,
            positive=self.negative,
            negative=self.positive,
            target=self.other_target,
            other_target=self.target,
        )


@dataclass(frozen=True)
class PromptEnd:
    """The end of a prompt, where an answer begins.

    Attributes:
        tokenizer: the model's tokenizer.
        encode: gives the token ids of a text that begins with the prompt.
        text: the prompt.
        ids: its tokens.
    """

    tokenizer: PreTrainedTokenizerBase
    encode: Callable[[str], Sequence[int]]
    text: str
    ids: Sequence[int]

    def answers(self, words: Sequence[str], lead: str) -> AnswerTokens:
        """Returns how answers begin.

        Args:
            words: the positive and the negative word, and what else is an answer.
            lead: what the model's turn begins with before a word, such as a space.

        Raises:
            PromptError: an answer has no first token of its own.
        """
        first = [self._first_tokens(word) for word in words]
        if not all(first) or len(set().union(*first)) < sum(map(len, first)):
            raise PromptError(
                f"The answers {' and '.join(map(repr, words))} cannot be told apart by their "
                f"first token after the prompt {shortened(self.text)}."
            )
        target, other_target = (self._target(lead, word) for word in words[:2])
        if target is None:
            raise PromptError(
                f"The answer {words[0]!r} does not begin with a token of its own after the prompt "
                f"{shortened(self.text)}."
            )
        positive, negative, *unsure = (tuple(sorted(tokens)) for tokens in first)
        return AnswerTokens(positive, negative, target, other_target, *unsure)

    def _target(self, lead: str, word: str) -> int | None:
        """The first token of the model's turn where it answers with a word, if it is the word's."""
        target = self._first_token(lead + word)
        decoded = "" if target is None else self.tokenizer.decode([target]).strip()
        return target if decoded and word.startswith(decoded) else None

    def _first_tokens(self, word: str) -> set[int]:
        """First-token ids of a word's surface forms, with and without a space before it.

        Where some forms are one token, only those count: the "Y" of a split "YES" begins other
        words too. A space alone never counts.
        """
        forms = [lead + form for form in (word, word.lower(), word.upper()) for lead in ("", " ")]
        first = {form: self._first_token(form) for form in forms}
        found = {form: token for form, token in first.items() if token is not None}
        texts = {token: self.tokenizer.decode([token]).strip() for token in found.values()}
        whole = {token for form, token in found.items() if texts[token] == form.strip()}
        return whole or {token for token, text in texts.items() if text}

    def _first_token(self, continuation: str) -> int | None:
        """The first new token of prompt and continuation together; None if they do not part."""
        whole = self.text + continuation
        together = self.encode(whole)
        before = len(self.ids)
        if list(together[:before]) != list(self.ids) or len(together) == before:
            return None
        return int(together[before])
