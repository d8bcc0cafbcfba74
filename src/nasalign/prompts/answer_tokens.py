"""The tokens by which an answer to a prompt can begin."""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from nasalign.errors import PromptError, shortened

_BYTES = 4
"""Bytes of a character in UTF-8 at most."""


@dataclass(frozen=True)
class AnswerTokens:
    """The tokens by which an answer to one prompt can begin."""

    positive: tuple[int, ...]  # first tokens of the word's surface forms ("Yes", " Yes", "yes", ..)
    negative: tuple[int, ...]  # the same of the negative word; no id is in both
    target: int  # first token of the positive word as the model's turn begins with it
    other_target: int | None  # of the negative word; None if it begins with no token of its own
    unsure: tuple[int, ...] = ()  # of the third answer, where the prompt allows one

    def mirrored(self) -> "AnswerTokens":
        """Return the same with the two answer words swapped, or raise PromptError."""
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


def find_answer_tokens(
    tokenizer: PreTrainedTokenizerBase,
    continued: Callable[[str], Sequence[int]],
    words: Sequence[Sequence[str]],
    lead: str,
    text: str,
) -> AnswerTokens:
    """Return the tokens by which answers to a prompt begin.

    Args:
        tokenizer: decodes tokens.
        continued: gives the tokens of a continuation of the prompt; none if it has none of its own.
        words: the forms of the positive and the negative word, and of what else is an answer.
        lead: white space with which the model's turn begins: after it, a word is another token
            ("Yes" or " Yes").
        text: the prompt, for messages.

    Raises:
        PromptError: two answers begin with the same token, or the positive one has none of its own.
    """

    def surface_forms(word: Sequence[str]) -> set[int]:
        cases = dict.fromkeys(way for form in word for way in (form, form.lower(), form.upper()))
        forms = {space + form: form for form in cases for space in ("", " ")}
        found = {form: ids[0] for form in forms if (ids := continued(form))}
        texts = {token: tokenizer.decode([token]).strip() for token in found.values()}
        # If some forms are one token, only those count: the "Y" of a split "YES" begins other
        # words too. A space alone never counts.
        whole = {token for form, token in found.items() if texts[token] == form.strip()}
        return whole or {token for token, said in texts.items() if said}

    def target_of(word: str) -> int | None:
        # Where the space is a token of its own, the word is looked for without it.
        for space in ("",) if has_no_spaces(word) else (lead, ""):
            ids = continued(space + word)
            decoded = first_characters(tokenizer, ids)
            if decoded and word.startswith(decoded):
                return ids[0]
        return None

    first = [surface_forms(word) for word in words]
    if not all(first) or len(set().union(*first)) < sum(map(len, first)):
        raise PromptError(
            f"The answers {' and '.join(repr(word[0]) for word in words)} cannot be told apart by "
            f"their first token after the prompt {shortened(text)}."
        )
    target, other_target = (target_of(word[0]) for word in words[:2])
    if target is None:
        raise PromptError(
            f"The answer {words[0][0]!r} does not begin with a token of its own after the prompt "
            f"{shortened(text)}."
        )
    positive, negative, *unsure = (tuple(sorted(tokens)) for tokens in first)
    return AnswerTokens(positive, negative, target, other_target, *unsure)


def first_characters(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Return the text of the first token, without spaces around it.

    A character outside ASCII may be several tokens of a byte-level tokenizer: then all of them.
    """
    for count in range(1, min(len(ids), _BYTES) + 1):
        decoded = tokenizer.decode(list(ids[:count])).strip()
        if "\ufffd" not in decoded:
            return decoded
    return ""


def has_no_spaces(word: str) -> bool:
    """Return whether a word is of a script that writes no spaces between words."""
    scripts = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
    return any(unicodedata.name(sign, "").startswith(scripts) for sign in word)
