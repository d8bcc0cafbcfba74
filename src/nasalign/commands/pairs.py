"""A yes/no prompt as a chat template of pairs: a query and a document fill its placeholders.

Rerankers and vLLM's score endpoint give a pair as two messages of the roles ``query`` and
``document``. A template that writes the prompt around them makes their tokens those that nasalign
scores.
"""

import copy
import re
from dataclasses import dataclass
from functools import cached_property

from transformers import PreTrainedTokenizerBase

from nasalign.data.records import BinaryExample, Question, load_facts
from nasalign.errors import NasAlignError, PromptError
from nasalign.evaluation.both_models import BothModels
from nasalign.prompts.builder import BinaryPrompt
from nasalign.prompts.template import render
from nasalign.session import Session

TRIED = 16
"""Pairs by which a template, and what is made of the model, are checked."""
ROLES = ("query", "document")
_MARKS = ("Qzxquery", "Dzxdocument")  # no template writes them by itself
_TEMPLATE = """\
{%- set nasalign_query = messages | selectattr("role", "equalto", "query") | list -%}
{%- set nasalign_document = messages | selectattr("role", "equalto", "document") | list -%}
{%- macro nasalign_text(message) -%}
{%- if message["content"] is string -%}{{- message["content"] -}}
{%- else -%}{{- message["content"][0]["text"] -}}{%- endif -%}
{%- endmacro -%}
{%- if nasalign_query and nasalign_document -%}
PARTS
{%- else -%}
OWN
{%- endif -%}
"""
_NONE = '{{- raise_exception("This template takes a query and a document.") -}}'


@dataclass(frozen=True)
class PairPrompt:
    """The prompt of a session as a template of pairs.

    Attributes:
        session: the model and the settings of the prompt.
        columns: the placeholders that the query and the document fill.
    """

    session: Session
    columns: tuple[str, str]

    @classmethod
    def of(cls, session: Session) -> "PairPrompt":
        """Return the prompt of a session.

        Of Prompt I the query is the question and the document the answer; of a user's template they
        are its placeholders in the order of their first use.

        Raises:
            PromptError: a user's template has not two placeholders.
        """
        columns = BothModels(session, None).columns
        if session.settings.template is None:
            columns = ("question", "answer")
        if len(columns) != len(ROLES):
            raise PromptError(
                "A pair fills two placeholders, and the template of the run has "
                f"{', '.join(columns)}; export it with --format merged."
            )
        return cls(session, (columns[0], columns[1]))

    def prompt(self, query: str, document: str) -> BinaryPrompt:
        """Return the prompt of a pair as nasalign asks it."""
        return self.session.builder().binary(self._example(query, document))

    @cached_property
    def tried(self) -> list[tuple[str, str]]:
        """Pairs of facts: questions, each with its answer, evenly over the embedded ones."""
        return [(one.question, one.answer) for one in tried_facts()]

    @cached_property
    def prompts(self) -> list[BinaryPrompt]:
        """The prompts of the pairs that are tried."""
        return [self.prompt(*pair) for pair in self.tried]

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return a copy of the tokenizer whose chat template writes pairs, checked by its tokens.

        Messages without a query and a document are written as before.

        Raises:
            PromptError: a template cannot write the tokens of the prompt.
        """
        tokenizer = copy.deepcopy(self.session.tokenizer)
        own = tokenizer.get_chat_template() if tokenizer.chat_template else _NONE
        written = _TEMPLATE.replace("PARTS", self._parts()).replace("OWN", own)
        tokenizer.chat_template = written
        for pair, prompt in zip(self.tried, self.prompts, strict=True):
            messages = [
                {"role": role, "content": text} for role, text in zip(ROLES, pair, strict=True)
            ]
            text = render(tokenizer, messages, answering=True)
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            if tuple(ids) != prompt.token_ids:
                raise PromptError(
                    "A chat template of pairs does not give the tokens of the prompt; export the "
                    "model with --format merged."
                )
        return tokenizer

    def _parts(self) -> str:
        """The prompt as Jinja: its text, with the messages in the place of the placeholders."""
        prompt = self.prompt(*_MARKS)
        tokenizer = self.session.tokenizer
        plain = tokenizer(prompt.text, add_special_tokens=False)["input_ids"]
        # What the tokenizer puts before a text by itself, which it does not after a template.
        begun = prompt.token_ids[: len(prompt.token_ids) - len(plain)]
        text = (tokenizer.decode(begun) if begun else "") + prompt.text
        pieces = re.split(f"({'|'.join(_MARKS)})", text)
        if {*_MARKS} - {*pieces}:
            raise NasAlignError("The chat template leaves out a part of the prompt.")
        fields = {
            mark: f"{{{{- nasalign_text(nasalign_{role}[0]) -}}}}"
            for mark, role in zip(_MARKS, ROLES, strict=True)
        }
        return "\n".join(fields.get(piece) or _literal(piece) for piece in pieces if piece)

    def _example(self, query: str, document: str) -> BinaryExample:
        values = dict(zip(self.columns, (query, document), strict=True))
        return BothModels(self.session, None).example(values)


def tried_facts() -> list[Question]:
    """Return embedded facts by which an export is checked, evenly over all."""
    facts = load_facts()
    return facts[:: max(1, len(facts) // TRIED)][:TRIED]


def _literal(text: str) -> str:
    """A text as a literal of Jinja, which reads the escapes of Python."""
    escaped = text.encode("unicode_escape").decode("ascii").replace('"', '\\"')
    return f'{{{{- "{escaped}" -}}}}'
