"""The tokens by which an answer to a prompt can begin."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from nasalign.errors import PromptError, shortened


@dataclass(frozen=True)
class AnswerTokens:
    """The tokens by which an answer to one prompt can begin."""

    positive: tuple[int, ...]  # first tokens of the word's surface forms ("Yes", " Yes", "yes", ..)
    negative: tuple[int, ...]  # the same of the negative word; no id is in both
    target: int  # first token of the positive word as the model's turn begins with it
    other_target: int | None  # of the negative word; None if it begins with no token of its own
    unsure: tuple[int, ...] = ()  # of "I don't know" where the instruction allows it

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
    first_token: Callable[[str], int | None],
    words: Sequence[str],
    lead: str,
    text: str,
) -> AnswerTokens:
    """Return the tokens by which answers to a prompt begin.

    ``first_token`` gives the first token of a continuation of the prompt; ``words`` are the
    positive and the negative word, and what else is an answer. ``lead`` is what the model's turn
    begins with before a word: some templates write a newline or a space there, and the word is
    another token after it ("Yes" or " Yes"). The prompt ``text`` is for messages.
    """

    def surface_forms(word: str) -> set[int]:
        forms = [lead + form for form in (word, word.lower(), word.upper()) for lead in ("", " ")]
        found = {form: token for form in forms if (token := first_token(form)) is not None}
        texts = {token: tokenizer.decode([token]).strip() for token in found.values()}
        # If some forms are one token, only those count: the "Y" of a split "YES" begins other
        # words too. A space alone never counts.
        whole = {token for form, token in found.items() if texts[token] == form.strip()}
        return whole or {token for token, said in texts.items() if said}

    def target_of(word: str) -> int | None:
        token = first_token(lead + word)
        decoded = "" if token is None else tokenizer.decode([token]).strip()
        return token if decoded and word.startswith(decoded) else None

    first = [surface_forms(word) for word in words]
    if not all(first) or len(set().union(*first)) < sum(map(len, first)):
        raise PromptError(
            f"The answers {' and '.join(map(repr, words))} cannot be told apart by their first "
            f"token after the prompt {shortened(text)}."
        )
    target, other_target = map(target_of, words[:2])
    if target is None:
        raise PromptError(
            f"The answer {words[0]!r} does not begin with a token of its own after the prompt "
            f"{shortened(text)}."
        )
    positive, negative, *unsure = (tuple(sorted(tokens)) for tokens in first)
    return AnswerTokens(positive, negative, target, other_target, *unsure)
