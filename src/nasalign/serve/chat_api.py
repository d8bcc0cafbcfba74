"""``/v1/chat/completions`` for one answer word: the request and the response.

They follow OpenAI's Chat Completions API as the package ``openai`` 3.54 has it. The answer is the
likelier of the two words, whatever else the model would rather say; ``coverage`` tells how much
that is. It is not sampled, and reads the probabilities of the first token alone.
"""

import uuid
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nasalign.serve.api_errors import RequestError
from nasalign.serve.served_model import PromptAnswer, ServedModel, log_probability

NO_EFFECT = {  # by the values at which they change nothing; with others they are named
    "temperature": (0,),
    "top_p": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "seed": (),
    "stop": (),
    "user": (),
    "metadata": (),
    "store": (False,),
    "service_tier": ("auto", "default"),
    "safety_identifier": (),
    "prompt_cache_key": (),
    "prompt_cache_options": (),
    "prompt_cache_retention": (),
    "reasoning_effort": ("none",),
    "verbosity": (),
    "parallel_tool_calls": (),
    "stream_options": (),
}
"""Parameters of OpenAI's that change nothing here."""
REFUSED: dict[str, tuple[Any, ...]] = {  # by the values at which they ask for nothing
    "stream": (False,),
    "n": (1,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "moderation": (),
    "web_search_options": (),
}
"""Parameters of OpenAI's that ask for what is not done here."""
WHY = {
    "stream": "the answer is one word, so that there is nothing to stream; set stream to false",
    "n": "the answer is not sampled, so that there is only one; set n to 1",
}


class TextPart(BaseModel):
    """A part of a message; images and sound are not taken."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """A message of a conversation; a ``name`` of its author is not shown to the model."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None
    refusal: None = None  # clients send earlier answers back as they were

    @property
    def turn(self) -> tuple[str, str]:
        """The role and the text; parts stand on lines of their own."""
        parts = [self.content] if isinstance(self.content, str) else [p.text for p in self.content]
        return self.role.replace("developer", "system"), "\n".join(parts)


class ChatRequest(BaseModel):
    """A request; what else it has is looked at by ``without_effect``."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None

    def without_effect(self) -> list[str]:
        """Return the names of parameters that change nothing.

        Raises:
            RequestError: a parameter asks for what is not done here, or is not known.
        """
        named = ["messages.name"] if any(one.name for one in self.messages) else []
        for name, value in (self.model_extra or {}).items():
            if value is None or value in NO_EFFECT.get(name, ()) or value in REFUSED.get(name, ()):
                continue
            if name in NO_EFFECT:
                named.append(name)
            elif name in REFUSED:
                why = WHY.get(name, "the answer is one of two words; leave it out")
                raise RequestError(f"{name} is not taken: {why}.", name, "unsupported_parameter")
            else:
                raise RequestError(f"There is no parameter {name}.", name, "unknown_parameter")
        return sorted(named)

    def turns(self) -> list[tuple[str, str]]:
        """Return the roles and texts of the messages.

        Raises:
            RequestError: the last message is not the user's.
        """
        if self.messages[-1].role != "user":
            raise RequestError(
                "The last message is not the user's, so that there is no question to answer.",
                "messages",
                "invalid_value",
            )
        if self.top_logprobs is not None and not self.logprobs:
            raise RequestError(
                "top_logprobs needs logprobs; set logprobs to true.",
                "top_logprobs",
                "invalid_value",
            )
        return [message.turn for message in self.messages]


def chat_completion(
    served: ServedModel, request: ChatRequest, answer: PromptAnswer, unused: list[str]
) -> dict[str, Any]:
    """Return the response; ``nasalign`` holds what OpenAI's has no field for."""
    said = _words(served, answer)
    logprobs = None
    if request.logprobs:
        top = said[: request.top_logprobs or 0]
        logprobs = {"content": [said[0] | {"top_logprobs": top}], "refusal": None}
    message = {"role": "assistant", "content": said[0]["token"], "refusal": None}
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(datetime.now(UTC).timestamp()),
        "model": served.name,
        "system_fingerprint": served.fingerprint,
        "choices": [
            {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "stop"}
        ],
        "usage": {
            "prompt_tokens": answer.tokens,
            "completion_tokens": 1,
            "total_tokens": answer.tokens + 1,
        },
        # The calibration is of other words than these messages have.
        "nasalign": {**served.facts(answer, None), "no_effect": unused},
    }


def _words(served: ServedModel, answer: PromptAnswer) -> list[dict[str, Any]]:
    """The answer words, the likeliest first, as OpenAI's tokens with their log probability."""
    own, words = answer.own, served.words
    found = [(words.positive, own.positive), (words.negative, own.negative)]
    if own.unsure is not None:
        found.append((words.unsures[0], own.unsure))
    return [
        {"token": word, "bytes": list(word.encode()), "logprob": log_probability(probability)}
        for word, probability in sorted(found, key=lambda one: -one[1])
    ]
