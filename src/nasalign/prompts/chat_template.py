"""How a tokenizer's chat template writes a prompt, and where in it the answer's content begins."""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache

from transformers import PreTrainedTokenizerBase

from nasalign.errors import PromptError, shortened
from nasalign.prompts.template import Message, render

# Texts that no template writes by itself, to find out where it puts what it is given.
_SYSTEM, _USER, _REASON, _ANSWER = "Sqzx", "Uqzx", "Rqzx", "Aqzx"
_THINK = r"[\w:-]*?(?:think|thought|reason|reflect|scratch)[\w:-]*"
_OPENED = re.compile(rf"(<\|?|\[|◁)({_THINK})(\|?>|\]|▷)\s*\Z", re.IGNORECASE)


@dataclass(frozen=True)
class ChatTemplate:
    """The chat template of a tokenizer.

    Attributes:
        tokenizer: has the template.
        today: the date that the template is told, as ``YYYY-MM-DD``; today's unless given.
    """

    tokenizer: PreTrainedTokenizerBase
    today: str | None = None

    @cached_property
    def takes_system(self) -> bool:
        """Whether a system message appears in the prompt; some templates refuse or drop it."""
        try:
            text = self._render([("system", _SYSTEM), ("user", _USER)], answering=True)
        except PromptError:
            return False
        return _SYSTEM in text and _USER in text

    def prompt(self, turns: Sequence[tuple[str, str]]) -> str:
        """Return the text of turns, each a role and a text, up to where an answer's content begins.

        A template may write something before the content, such as the name of a channel or an empty
        block of reasoning; it is part of the prompt. A block of reasoning that the template leaves
        open is closed. White space before the content is not part of the prompt (``space``).

        Raises:
            PromptError: the template fails.
        """
        text = self._render(turns, answering=True)
        lost, further, _ = self._ending
        return text.removesuffix(lost) + further

    def answered(self, turns: Sequence[tuple[str, str]], answer: str) -> str:
        """Return the text of turns that the model has answered.

        It is the template's own, with the end of the turn, where that begins with the prompt;
        otherwise the answer follows the prompt.
        """
        prompt = self.prompt(turns)
        with suppress(PromptError):  # a template may take no answered turn
            text = self._render([*turns, ("assistant", answer)], answering=False)
            if text.startswith(prompt):
                return text
        return f"{prompt}{self.space or ''}{answer}"

    @property
    def space(self) -> str | None:
        """White space between the prompt and the answer's content; None if that is not known."""
        return self._ending[2]

    @cached_property
    def _generated_and_answered(self) -> tuple[str, str | None]:
        """A prompt as the template ends it, and the text before an answer's content, if any."""
        generated = self._render([("user", _USER)], answering=True)
        try:
            text = self._render([("user", _USER), ("assistant", _ANSWER)], answering=False)
        except PromptError:  # it takes no answered turn
            return generated, None
        return generated, text[: text.rindex(_ANSWER)] if _ANSWER in text else None

    @cached_property
    def _ending(self) -> tuple[str, str, str | None]:
        """What a generated prompt loses at its end, what it gets there, and ``space``.

        The template knows how an answer begins: it is asked to render a turn that is answered.
        """
        generated, answered = self._generated_and_answered
        opened = _OPENED.search(generated)
        if answered is None:
            return "", self._closing(opened) if opened else "", "" if opened else None
        pairs = enumerate(zip(generated, answered, strict=False))
        shorter = min(len(generated), len(answered))
        same = next((place for place, (one, other) in pairs if one != other), shorter)
        own, past = generated[same:], answered[same:]
        if opened and own.strip():
            return "", self._closing(opened), ""
        if own.strip() and ("think" in own.casefold() or not past.strip()):
            return "", "", None  # more than in a past turn, such as an empty block of reasoning
        if not past.strip():
            return "", "", None if own else past
        # A space belongs to the token of the word that follows it; a newline does not.
        begun = past.rstrip(" ")
        return own, begun, past[len(begun) :]

    def _closing(self, opened: re.Match[str]) -> str:
        """The text that closes a block of reasoning that has no content."""
        reasoned = dict.fromkeys(("reasoning_content", "reasoning", "thinking"), _REASON)
        answer = {"role": "assistant", "content": self._content(_ANSWER), **reasoned}
        try:
            text = self._rendered([self._message("user", _USER), answer], answering=False)
        except PromptError:
            text = ""
        before, _, after = text.partition(_REASON)
        if opened[2] in before and _ANSWER in after:
            return after[: after.index(_ANSWER)]
        ends = {"start": "end", "begin": "end", "START": "END", "BEGIN": "END"}
        pairs = [(one, other) for one, other in ends.items() if one in opened[2]]
        name = opened[2].replace(*pairs[0]) if pairs else f"/{opened[2]}"
        return f"\n{opened[1]}{name}{opened[3]}\n\n"

    def _render(self, turns: Sequence[tuple[str, str]], *, answering: bool) -> str:
        messages = [self._message(role, text) for role, text in turns]
        return self._rendered(messages, answering=answering)

    def _rendered(self, messages: Sequence[Message], *, answering: bool) -> str:
        return render(self.tokenizer, messages, answering=answering, today=self.today)

    def _message(self, role: str, text: str) -> Message:
        return {"role": role, "content": self._content(text)}

    def _content(self, text: str) -> str | list[dict[str, str]]:
        return [{"type": "text", "text": text}] if self._takes_parts else text

    @cached_property
    def _takes_parts(self) -> bool:
        """Whether a message's content must be a list of parts.

        Raises:
            PromptError: the template fails on both forms, or writes neither.
        """
        failure = None
        for content in (_USER, [{"type": "text", "text": _USER}]):
            try:
                text = self._rendered([{"role": "user", "content": content}], answering=True)
            except PromptError as error:
                failure = failure or error
                continue
            # A list that is written as it is, in Python's notation, is not taken.
            if _USER in text and "'text'" not in text:
                return content != _USER
        raise failure or PromptError(
            f"The chat template rewrites the message {shortened(_USER)}, or leaves it out. Try "
            "chat=false."
        )


def chat_template_of(tokenizer: PreTrainedTokenizerBase, today: str | None = None) -> ChatTemplate:
    """Return the chat template of a tokenizer; what was found out about it is kept."""
    return _kept(tokenizer, str(tokenizer.chat_template), today)


@lru_cache(maxsize=4)
def _kept(tokenizer: PreTrainedTokenizerBase, template: str, today: str | None) -> ChatTemplate:
    return ChatTemplate(tokenizer, today)
