"""Prompts I and II with their token ids, and where the answer words stand in them.

A binary prompt reads ``instruction [Context: ...] Question: ... [Is the answer ...?] Answer:``,
alone or as the user's message of a chat template; ``prompts.scenarios`` has the other wordings.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, get_args

from transformers import PreTrainedTokenizerBase

from nasalign.config import NasRows, Scenario, Settings
from nasalign.data.records import BinaryExample, Question, lettered
from nasalign.errors import PromptError, shortened
from nasalign.prompts.answer_tokens import AnswerTokens, find_answer_tokens
from nasalign.prompts.encoding import Encoder
from nasalign.prompts.scenarios import UNSURE, closing_in, instruction_in
from nasalign.prompts.template import render
from nasalign.prompts.wordings import INSTRUCTIONS, PARAMETRIC_INSTRUCTION, VOCABULARIES, Vocabulary

TAIL = 8  # two prompts that end in the same characters are continued by the same tokens


@dataclass(frozen=True)
class BinaryPrompt:
    """A rendered yes/no prompt."""

    text: str  # what the model reads, special tokens of the chat template included
    token_ids: tuple[int, ...]  # its T tokens
    positive_position: int  # index of the instruction's positive word (t_yes of Eq. 1)
    negative_position: int  # index of the instruction's negative word (t_no)
    first_row: int  # index of the first row of the sum (i = L_I), by ``nas_rows``
    answers: AnswerTokens  # how an answer to this prompt can begin

    def mirrored(self) -> "BinaryPrompt":
        """Return the same prompt with the two answer words swapped.

        Its NAS is Eq. 1 with Yes and No swapped, and the answer that it is tuned on is No: whatever
        corrects a lean to No then corrects a lean to Yes. Raise PromptError if No has no token.
        """
        return replace(
            self,
            positive_position=self.negative_position,
            negative_position=self.positive_position,
            answers=self.answers.mirrored(),
        )


@dataclass
class PromptBuilder:
    """Renders questions for one tokenizer, instruction and vocabulary."""

    tokenizer: PreTrainedTokenizerBase  # must give character offsets
    vocabulary: str = "yes/no"  # a key of VOCABULARIES
    instruction: str = "nasa"  # a key of INSTRUCTIONS
    chat: bool | None = None  # None uses the chat template where the tokenizer has one
    shots: Sequence[BinaryExample] = ()  # shown answered, between instruction and question
    scenario: Scenario = "plain"  # ``context`` and ``negated`` are in the examples
    nas_rows: NasRows = "after_instruction"
    _answers: dict[str, AnswerTokens] = field(default_factory=dict, init=False, repr=False)
    _encode: Encoder = field(init=False, repr=False)

    def __post_init__(self) -> None:
        choices: dict[str, Collection[str]] = {
            "vocabulary": VOCABULARIES,
            "instruction": INSTRUCTIONS,
            "scenario": get_args(Scenario),
            "nas_rows": get_args(NasRows),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise PromptError(
                    f"There is no {name} {getattr(self, name)!r}; choose one of {', '.join(known)}."
                )
        if self.shots and self.scenario == "cot":
            raise PromptError(
                "The scenario cot takes no examples, since theirs would show no reasoning; set "
                "shots=0."
            )
        check_offsets(self.tokenizer)
        has_template = self.tokenizer.chat_template is not None
        if self.chat and not has_template:
            raise PromptError("The tokenizer has no chat template; set chat=false.")
        self.chat = has_template if self.chat is None else self.chat
        # A template's text already holds its special tokens.
        self._encode = Encoder(self.tokenizer, special=not self.chat)

    @classmethod
    def of(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        settings: Settings,
        shots: Sequence[BinaryExample] = (),
        scenario: Scenario = "plain",
    ) -> Self:
        """Return a builder with the wording of the settings."""
        words, wording, chat = settings.vocabulary, settings.instruction, settings.chat
        return cls(tokenizer, words, wording, chat, shots, scenario, settings.nas_rows)

    @property
    def words(self) -> Vocabulary:
        """The answer words."""
        return VOCABULARIES[self.vocabulary]

    def binary(self, example: BinaryExample) -> BinaryPrompt:
        """Render Prompt I (Section 3.1.1), or a yes/no question as it is.

        Raise PromptError if an answer word has no token of its own, or if the template rewrites it.
        """
        words = self.words
        template = instruction_in(self.scenario, INSTRUCTIONS[self.instruction])
        instruction = template.format(positive=words.positive, negative=words.negative)
        said = {True: words.positive, False: words.negative}
        shots = (
            f"{_body(shot, words, self.scenario)} {said[shot.known_label]}\n" for shot in self.shots
        )
        content = f"{instruction} {''.join(shots)}{_body(example, words, self.scenario)}"
        text = self._render(content)
        start = text.find(content)
        if start < 0:
            raise PromptError(f"The chat template rewrites the message {shortened(content)}.")
        ids, offsets = self._encode(text, [content])

        def locate(word: str, place: int) -> int:
            return locate_word(self.tokenizer, word, place, ids, offsets, text)

        # The words are located in the instruction: the question may hold a "No" of its own.
        positive = start + template.index("{positive}")
        negative = start + template.format(positive=words.positive, negative="\0").index("\0")
        end = start + len(instruction)
        after = next(i for i, (begin, stop) in enumerate(offsets) if stop > begin >= end)
        return BinaryPrompt(
            text=text,
            token_ids=tuple(ids),
            positive_position=locate(words.positive, positive),
            negative_position=locate(words.negative, negative),
            # Taken at its word, Eq. 1 begins with row L_I, the instruction's last token.
            first_row=after if self.nas_rows == "after_instruction" else after - 1,
            answers=self._answer_tokens(content, text, ids),
        )

    def parametric(self, question: Question, answer: str | None = None) -> tuple[int, ...]:
        """Return the token ids of Prompt II (Appendix E), followed by an answer if one is given."""
        context = f"Context: {question.context} " if question.context else ""
        asked = " ".join([question.question, *lettered(question.options)])
        content = f"{PARAMETRIC_INSTRUCTION} {context}Question: {asked} Answer:"
        written = [content] if answer is None else [content, answer]
        return tuple(self._encode(self._render(content, answer), written)[0])

    def message(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a message as it is, without an instruction."""
        return tuple(self._encode(self._render(text), [text])[0])

    def _render(self, content: str, answer: str | None = None) -> str:
        """The text the model reads; with ``answer``, the text in which it has answered."""
        if not self.chat:
            return content if answer is None else f"{content} {answer}"
        messages = [{"role": "user", "content": content}]
        if answer is not None:
            messages.append({"role": "assistant", "content": answer})
        return render(self.tokenizer, messages, answering=answer is None)

    def _answer_tokens(self, content: str, text: str, ids: list[int]) -> AnswerTokens:
        def first_token(continuation: str) -> int | None:
            # Prompt and continuation are encoded together: on its own, the continuation would
            # begin with another token.
            together, before = self._encode(text + continuation, [content])[0], len(ids)
            if together[:before] != ids or len(together) == before:
                return None
            return int(together[before])

        tail = text[-TAIL:]
        if tail not in self._answers:
            words = [self.words.positive, self.words.negative]
            words += [UNSURE] if self.scenario == "unsure" else []
            lead = self._lead(content, text)
            self._answers[tail] = find_answer_tokens(self.tokenizer, first_token, words, lead, text)
        return self._answers[tail]

    def _lead(self, content: str, text: str) -> str:
        """What stands between the prompt and the answer, such as a space or a newline.

        The template knows: it is asked to render a turn that is answered already.
        """
        word = self.words.positive
        answered = self._render(content, answer=word)
        if answered.startswith(text) and word in answered[len(text) :]:
            return answered[len(text) :].partition(word)[0]
        return "" if text[-1].isspace() else " "


def prompt_1(example: BinaryExample) -> str:
    """Return Prompt I as a message, for a model whose tokenizer is not at hand."""
    words = VOCABULARIES["yes/no"]
    instruction = INSTRUCTIONS["nasa"].format(positive=words.positive, negative=words.negative)
    return f"{instruction} {_body(example, words)}"


def _body(example: BinaryExample, words: Vocabulary, scenario: Scenario = "plain") -> str:
    """What follows the instruction of a prompt."""
    context = f"Context: {example.context} " if example.context else ""
    is_it = "Is the answer not" if example.negated else "Is the answer"
    verify = f" {is_it} {example.answer}?" if example.answer is not None else ""
    closing = closing_in(scenario, words.positive, words.negative)
    return f"{context}Question: {example.question}{verify} {closing}"


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
    offsets: Sequence[tuple[int, int]],
    text: str,
) -> int:
    """Return the index of the token in which a word at a character begins, checked by decoding."""
    covering = (i for i, (begin, end) in enumerate(offsets) if begin <= place < end)
    index = next(covering, -1)
    decoded = tokenizer.decode([ids[index]]).strip() if index >= 0 else ""
    if not decoded or not word.startswith(decoded):
        raise PromptError(
            f"The answer word {word!r} has no token of its own: the tokenizer reads "
            f"{decoded!r} there, in the prompt {shortened(text)}."
        )
    return index
