"""``/v1/decisions``: typed questions about an input, answered by probabilities.

It follows OpenAI's Decisions API as the package ``openai`` 3.54 has it. Every question is asked as
yes/no questions in the prompt in which ``ask`` asks: a predicate is one; a choice and a score ask
of each option whether it is the answer. If exactly one option is the answer, and each is judged by
itself, the probability of an option is proportional to its odds of Yes.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from nasalign.prompts.builder import BinaryPrompt
from nasalign.serve.api_errors import RequestError
from nasalign.serve.served_model import PromptAnswer, ServedModel

MOST_PROMPTS = 512
"""Yes/no questions of a request at most."""
UNUSED = ("prompt_cache_key", "prompt_cache_options", "safety_identifier")
"""Parameters of OpenAI's that change nothing here."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class InputText(_Strict):
    """A text in a message of the input, or in the instructions of a question."""

    type: Literal["input_text", "output_text"]
    text: str


class InputJson(_Strict):
    """A JSON object, which is shown as text, or fills the columns of the server's template."""

    type: Literal["input_json"]
    data: dict[str, JsonValue] | list[dict[str, JsonValue]]


Part = Annotated[InputText | InputJson, Field(discriminator="type")]
Content = str | list[Part]


class InputMessage(_Strict):
    """A message of the input."""

    role: Literal["user", "developer", "system", "assistant"]
    content: Content
    type: Literal["message"] = "message"
    phase: Literal["commentary", "final_answer"] | None = None


class Predicate(_Strict):
    """Whether a statement is true, or a question is to be answered with Yes."""

    type: Literal["predicate"]
    instructions: Content
    name: str | None = None

    @property
    def options(self) -> list[str | None]:
        """The answers that are asked about."""
        return [None]


class Option(_Strict):
    """An option of a choice."""

    value: str | bool
    description: str | None = None

    @property
    def text(self) -> str:
        """How the prompt calls it."""
        name = str(self.value).lower() if isinstance(self.value, bool) else self.value
        return _described(name, self.description)


class ChoiceQuestion(_Strict):
    """Which of the options is right."""

    type: Literal["choice"]
    instructions: Content
    choices: Annotated[list[Option], Field(min_length=2, max_length=255)]
    name: str | None = None

    @property
    def options(self) -> list[str | None]:
        """The answers that are asked about."""
        return [one.text for one in self.choices]


class Level(_Strict):
    """A level of a score."""

    label: str
    description: str | None = None


class ScoreQuestion(_Strict):
    """Which of the ordered levels is right."""

    type: Literal["score"]
    instructions: Content
    levels: Annotated[list[Level], Field(min_length=2, max_length=255)]
    name: str | None = None

    @property
    def options(self) -> list[str | None]:
        """The answers that are asked about."""
        return [_described(one.label, one.description) for one in self.levels]


AnyQuestion = Annotated[Predicate | ChoiceQuestion | ScoreQuestion, Field(discriminator="type")]


class DecisionRequest(_Strict):
    """Questions about an input."""

    model: str
    input: str | list[InputMessage]
    questions: Annotated[list[AnyQuestion], Field(min_length=1, max_length=400)]
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, JsonValue] | None = None
    safety_identifier: str | None = None

    @property
    def size(self) -> int:
        """Number of yes/no questions.

        Raises:
            RequestError: there are too many, or two options are the same.
        """
        for number, question in enumerate(self.questions):
            if isinstance(question, ChoiceQuestion):
                same = len({(type(one.value), one.value) for one in question.choices})
                if same < len(question.choices):
                    place = f"questions.{number}.choices"
                    raise RequestError(
                        f"Two of {place} have the same value.", place, "invalid_value"
                    )
        size = sum(len(question.options) for question in self.questions)
        if size > MOST_PROMPTS:
            raise RequestError(
                f"The request asks {size:,} yes/no questions, one for each predicate and each "
                f"option, and {MOST_PROMPTS} at most are taken; ask fewer at once.",
                "questions",
                "request_too_large",
            )
        return size

    def without_effect(self) -> list[str]:
        """Return the names of parameters that change nothing."""
        return [name for name in UNUSED if getattr(self, name) is not None]

    def prompts(self, served: ServedModel) -> list[BinaryPrompt]:
        """Return the yes/no questions, as the served model is asked.

        Raises:
            NasAlignError: the server's template does not take these values.
            RequestError: a prompt is too long.
        """
        about = _values(self.input, served.models.columns)
        prompts = [
            served.question(about | {"question": _text(question.instructions), "answer": option})
            for question in self.questions
            for option in question.options
        ]
        served.check_lengths(prompts)
        return prompts


def decision(
    served: ServedModel, request: DecisionRequest, answers: Sequence[PromptAnswer]
) -> dict[str, Any]:
    """Return the response; ``nasalign`` holds what OpenAI's has no field for."""
    found, left = [], list(answers)
    for question in request.questions:
        own, left = left[: len(question.options)], left[len(question.options) :]
        found.append(
            {"type": question.type, "name": question.name, **_reply(served, question, own)}
        )
    tokens = sum(answer.tokens for answer in answers)
    return {
        "model": served.name,
        "answers": found,
        "usage": {
            "input_tokens": tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": tokens,
        },
        "nasalign": {"no_effect": request.without_effect()},
    }


def _reply(
    served: ServedModel, question: AnyQuestion, answers: Sequence[PromptAnswer]
) -> dict[str, Any]:
    """The fields of an answer that depend on its type."""
    scaling = served.calibration
    if isinstance(question, Predicate):
        facts = served.facts(answers[0], scaling)
        return {"probability": facts["probability"], "nasalign": facts}
    facts = {
        "options": [served.facts(answer, scaling) for answer in answers],
        "calibrated": scaling is not None,
    }
    chosen = _chosen(question, [answer.own.probability(scaling) for answer in answers])
    untouched = [answer.untouched.probability() for answer in answers if answer.untouched]
    facts["untouched"] = _chosen(question, untouched) if untouched else None
    return chosen | {"nasalign": facts}


def _chosen(question: ChoiceQuestion | ScoreQuestion, yes: Sequence[float]) -> dict[str, Any]:
    """The choice or the score of the probabilities of Yes to each option."""
    shares = torch.tensor(yes, dtype=torch.float64).logit(eps=1e-12).softmax(dim=0).tolist()
    count, highest = len(shares), max(shares)
    # How far the highest is above an equal share: 0 where all are equal, 1 where one is certain.
    confidence = min(1.0, max(0.0, (highest - 1 / count) / (1 - 1 / count)))
    if isinstance(question, ChoiceQuestion):
        return {
            "choice": question.choices[shares.index(highest)].value,
            "confidence": confidence,
            "probabilities": [
                {"value": one.value, "probability": share}
                for one, share in zip(question.choices, shares, strict=True)
            ],
        }
    return {
        "score": sum(place * share for place, share in enumerate(shares)),
        "confidence": confidence,
        "probabilities": [
            {"value": place, "label": one.label, "probability": share}
            for place, (one, share) in enumerate(zip(question.levels, shares, strict=True))
        ],
    }


def _values(given: str | list[InputMessage], columns: Sequence[str]) -> dict[str, str | None]:
    """The input as values of a prompt: by column where it is one JSON object, or as the context."""
    if isinstance(given, str):
        return {"context": given}
    if len(given) == 1 and isinstance(given[0].content, list) and len(given[0].content) == 1:
        part = given[0].content[0]
        own = set(columns) - {"question", "answer", "context"}
        if isinstance(part, InputJson) and isinstance(part.data, dict) and own:
            return {name: _shown(value) for name, value in part.data.items()}
    if len(given) == 1 and given[0].role == "user":
        return {"context": _text(given[0].content)}
    lines = (f"{one.role.capitalize()}: {_text(one.content)}" for one in given)
    return {"context": "\n".join(lines)}


def _text(content: Content) -> str:
    """A content as text, its parts on lines of their own."""
    if isinstance(content, str):
        return content
    return "\n".join(
        part.text if isinstance(part, InputText) else _shown(part.data) for part in content
    )


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _described(name: str, description: str | None) -> str:
    return f"{name} ({description})" if description else name
