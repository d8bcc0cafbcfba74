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
from nasalign.prompts.chat_template import ChatTemplate, chat_template_of
from nasalign.prompts.encoding import Encoder, Span
from nasalign.prompts.locating import check_offsets, locate_word, token_after
from nasalign.prompts.prompt_one import fill_prompt_1, question_text
from nasalign.prompts.scenarios import words_in
from nasalign.prompts.user_template import Filled, Part, PromptTemplate
from nasalign.prompts.wordings import INSTRUCTIONS, PARAMETRIC_INSTRUCTION, Vocabulary

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
    named: bool = True  # whether both words are in the prompt; otherwise it has no NAS

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
    """Renders questions for one tokenizer and one wording."""

    tokenizer: PreTrainedTokenizerBase  # must give character offsets
    vocabulary: str = "yes/no"  # as ``Vocabulary.of`` reads it
    instruction: str = "nasa"  # a key of INSTRUCTIONS
    chat: bool | None = None  # None uses the chat template where the tokenizer has one
    shots: Sequence[BinaryExample] = ()  # shown answered, between instruction and question
    scenario: Scenario = "plain"  # ``context`` and ``negated`` are in the examples
    nas_rows: NasRows = "after_instruction"
    template: PromptTemplate | None = None  # the user's own prompt, in place of Prompt I
    today: str | None = None  # the date that the chat template is told; today's unless given
    words: Vocabulary = field(init=False)  # the answers that a prompt allows
    _answers: dict[str, AnswerTokens] = field(default_factory=dict, init=False, repr=False)
    _encode: Encoder = field(init=False, repr=False)

    def __post_init__(self) -> None:
        choices: dict[str, Collection[str]] = {
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
        self.words = words_in(self.scenario, Vocabulary.of(self.vocabulary))
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
        return cls(
            tokenizer,
            settings.vocabulary,
            settings.instruction,
            settings.chat,
            shots,
            scenario,
            settings.nas_rows,
            template_of(settings),
            settings.date,
        )

    @property
    def names_words(self) -> bool:
        """Whether the prompts name both answer words, which NAS needs."""
        return self.template is None or self.template.places(self.words) is not None

    def binary(self, example: BinaryExample) -> BinaryPrompt:
        """Render Prompt I (Section 3.1.1), or a yes/no question as it is, or the user's template.

        Raises:
            PromptError: an answer word has no token of its own, the chat template rewrites the
                message, or the user's template does not fit the example.
        """
        turns = [
            turn
            for shot in (self.shots if self.template else ())
            for turn in (("user", self._filled(shot).messages["user"]), self._said(shot))
        ]
        filled = self._filled(example)
        if self.chat and "system" in filled.messages and not self._chat.takes_system:
            filled = filled.joined()
        parts: dict[Part, str] = filled.messages
        turns = [(part, text) for part, text in parts.items() if part == "system"] + turns
        turns.append(("user", parts["user"]))
        text = self._render(turns)
        starts = self._starts(parts, text)
        # What others have written stays text; a template may hold special tokens of its own.
        values = [(starts[part] + begin, starts[part] + end) for part, begin, end in filled.values]
        ids, offsets = self._encode(text, values)
        part, end = filled.end
        after = token_after(offsets, starts[part] + end)

        def position_of(word: tuple[Part, int, str]) -> int:
            in_part, place, written = word
            start = starts[in_part] + place
            return locate_word(self.tokenizer, written, start, ids, offsets, text)

        return BinaryPrompt(
            text=text,
            token_ids=tuple(ids),
            positive_position=position_of(filled.words[0]) if filled.words else 0,
            negative_position=position_of(filled.words[1]) if filled.words else 0,
            # Taken at its word, Eq. 1 begins with row L_I, the instruction's last token.
            first_row=after if self.nas_rows == "after_instruction" else max(0, after - 1),
            answers=self._answer_tokens(text, ids, values),
            named=filled.words is not None,
        )

    def parametric(self, question: Question, answer: str | None = None) -> tuple[int, ...]:
        """Return the token ids of Prompt II (Appendix E), followed by an answer if one is given."""
        context = f"Context: {question.context} " if question.context else ""
        asked = " ".join([question.question, *lettered(question.options)])
        content = f"{PARAMETRIC_INSTRUCTION} {context}Question: {asked} Answer:"
        turns = [("user", content)]
        if answer is None:
            return tuple(self._encode(self._render(turns), [content])[0])
        text = self._chat.answered(turns, answer) if self.chat else f"{content} {answer}"
        return tuple(self._encode(text, [content, answer])[0])

    def conversation(self, turns: Sequence[tuple[str, str]]) -> BinaryPrompt:
        """Render messages as they are, which one of the answer words is to follow.

        Args:
            turns: the role of each message, ``system``, ``user`` or ``assistant``, and its text.

        Returns:
            The prompt; the answer words need not be in it, so that it has no NAS.

        Raises:
            PromptError: the chat template fails, or an answer word has no token of its own.
        """
        turns = list(turns)
        if self.chat and not self._chat.takes_system:
            turns = _without_system(turns)
        text = self._render(turns)
        written = self._written(turns, text)
        ids, _ = self._encode(text, written)
        answers = self._answer_tokens(text, ids, written)
        return BinaryPrompt(text, tuple(ids), 0, 0, len(ids) - 1, answers, named=False)

    def _written(self, turns: Sequence[tuple[str, str]], text: str) -> list[Span] | list[str]:
        """Where messages stand in a rendered text; the messages themselves where that is unclear.

        A text may be short and also stand in what the template writes, so it is not searched for:
        the template is asked where it puts texts that it does not write itself.
        """
        marks = [f"Mqzx{number}q" for number in range(len(turns))]
        marked = self._render([(role, mark) for (role, _), mark in zip(turns, marks, strict=True)])
        for texts in ([one for _, one in turns], [one.strip() for _, one in turns]):
            spans: list[Span] = []
            rest, before, place = marked, "", 0
            for mark, one in zip(marks, texts, strict=True):
                before, _, rest = rest.partition(mark)
                place += len(before)
                spans.append((place, place + len(one)))
                place += len(one)
            parts = [text[begin:end] for begin, end in spans]
            if parts == texts and text[place:] == rest:
                return spans
        return [one for _, one in turns]

    def message(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a message as it is, without an instruction."""
        return tuple(self._encode(self._render([("user", text)]), [text])[0])

    @property
    def _chat(self) -> ChatTemplate:
        return chat_template_of(self.tokenizer, self.today)

    def _render(self, turns: Sequence[tuple[str, str]]) -> str:
        """The text that the model reads; without a chat template, the turns one after the other."""
        if self.chat:
            return self._chat.prompt(turns)
        return "\n".join(text for _, text in turns)

    def _filled(self, example: BinaryExample) -> Filled:
        """The messages of an example, before the chat template."""
        if self.template is None:
            return fill_prompt_1(
                example, self.words, self.instruction, map(self._shown, self.shots), self.scenario
            )
        values = {"question": example.question} | dict(example.fields)
        if example.context:
            values |= {"context": example.context}
        if example.answer is not None:
            if "answer" not in self.template.columns:
                raise PromptError(
                    f"The template does not show {{answer}}, so it cannot ask whether "
                    f"{shortened(example.answer)} is the answer to "
                    f"{shortened(example.question)}; name {{answer}}, or give labelled rows."
                )
            values |= {"answer": example.answer}
        if example.negated:
            raise PromptError("The scenario negated is of Prompt I; leave out the template.")
        return self.template.fill(values, self.words)

    def _shown(self, shot: BinaryExample) -> str:
        """An example with its answer, as it stands before a question."""
        return f"{question_text(shot, self.words, self.scenario)} {self._said(shot)[1]}\n"

    def _said(self, shot: BinaryExample) -> tuple[str, str]:
        """The turn of the model that answers an example rightly."""
        return "assistant", self.words.positive if shot.known_label else self.words.negative

    def _starts(self, parts: dict[Part, str], text: str) -> dict[Part, int]:
        """Where each message stands in the rendered text; the user's is the last of its words."""
        starts: dict[Part, int] = {}
        for part, message in parts.items():
            starts[part] = text.rfind(message) if part == "user" else text.find(message)
            if starts[part] < 0:
                raise PromptError(f"The chat template rewrites the message {shortened(message)}.")
        return starts

    def _answer_tokens(
        self, text: str, ids: list[int], values: Sequence[Span] | Sequence[str]
    ) -> AnswerTokens:
        def continued(continuation: str) -> list[int]:
            # Prompt and continuation are encoded together: on its own, the continuation would
            # begin with another token.
            together, before = self._encode(text + continuation, values)[0], len(ids)
            return together[before:] if together[:before] == ids else []

        tail = text[-TAIL:]
        if tail not in self._answers:
            space = self._chat.space if self.chat else None
            if space is None:
                space = "" if text[-1].isspace() else " "
            self._answers[tail] = find_answer_tokens(
                self.tokenizer, continued, self.words.forms, space, text
            )
        return self._answers[tail]


def template_of(settings: Settings) -> PromptTemplate | None:
    """Return the user's template of the settings, or None.

    Raises:
        PromptError: it has no placeholder.
    """
    if settings.template is None:
        return None
    return PromptTemplate(settings.template, settings.system)


def _without_system(turns: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Put the system messages at the beginning of the first message of the user."""
    system = [text for role, text in turns if role == "system"]
    others = [turn for turn in turns if turn[0] != "system"]
    first = next((n for n, (role, _) in enumerate(others) if role == "user"), None)
    if system and first is not None:
        others[first] = ("user", "\n\n".join([*system, others[first][1]]))
    return others
