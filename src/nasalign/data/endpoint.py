"""An OpenAI-compatible endpoint, with a cache on disk, retries, and a limit on what it may cost.

Base URL and key come from the environment (``OPENAI_BASE_URL``, ``OPENAI_API_KEY``) and are never
written, nor shown where an endpoint repeats them in an error. Every complete answer is cached at
once, so that an interrupted run does not pay for it again.
"""

import json
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam

from nasalign.data.access import Access
from nasalign.data.answer_cache import AnswerCache
from nasalign.data.conversation import MAX_TOKENS, Conversation
from nasalign.errors import EndpointError
from nasalign.io.digests import sha256
from nasalign.progress import Progress

_REASONING_TOKENS = 4096  # in place of MAX_TOKENS where a model thinks before it answers
_CUT = ("length", "content_filter")  # finish reasons of an incomplete answer
_TIMEOUT = 120.0  # seconds
_RETRIES = 6  # waiting 0.5 s at first, 8 s at most, or as long as the endpoint asks for


@dataclass
class Usage:
    """What was asked of an endpoint; tokens are those of the calls, not of cached answers."""

    calls: int = 0
    cached: int = 0
    refused: int = 0
    incomplete: int = 0  # answers that were empty or cut off; they are used, but not cached
    prompt_tokens: int = 0
    completion_tokens: int = 0


class EndpointChat:
    """Asks an OpenAI-compatible endpoint, at most ``max_calls`` times in all; a ``Chat``.

    All methods raise EndpointError, as where there is no key or the cache cannot be used.
    """

    def __init__(
        self, model: str, cache: Path, *, concurrency: int = 8, max_calls: int | None = None
    ) -> None:
        self.name = f"openai:{model}"
        self.usage = Usage()
        self._model, self._concurrency, self._max_calls = model, concurrency, max_calls
        self._lock, self._refusal = threading.Lock(), ""
        self._options: dict[str, Any] = {"temperature": 0, "max_tokens": MAX_TOKENS}
        access = Access.from_environment()
        self._safe, self.exposed = access.safe, access.exposed
        try:
            self._client = openai.OpenAI(
                api_key=access.key,
                base_url=access.url,
                default_headers=access.headers,
                default_query=access.query,
                max_retries=_RETRIES,
                timeout=_TIMEOUT,
            )
            self._cache = AnswerCache(cache)
        except openai.OpenAIError as error:
            raise EndpointError(
                "OPENAI_API_KEY is not set; set it, and OPENAI_BASE_URL for another endpoint than "
                "OpenAI's."
            ) from error
        url = self._client.base_url
        if access.query:  # the HTTP client would log it
            client = type(url).__module__.partition(".")[0]
            logging.getLogger(client).setLevel(logging.WARNING)
        self._host = f"{url.scheme}://{url.netloc.decode()}"
        # The key of the cache has the options wished for, not those that the model then accepts.
        self._cached_by = [f"{self._host}{url.path}", self._options, _REASONING_TOKENS]

    def complete(
        self, conversations: Sequence[Conversation], progress: Progress | None = None
    ) -> list[str | None]:
        """Return the answer to each conversation, in order; None where it was refused.

        Answers that came before an error are kept.
        """
        asked = [[*self._cached_by, self._model, one.system, one.user] for one in conversations]
        keys = [sha256([json.dumps(one)]) for one in asked]
        answers = {key: self._cache.get(key) for key in keys}
        cached = sum(answers[key] is not None for key in keys)
        self.usage.cached += cached
        if progress:
            progress(cached)
        waiting = {
            key: conversation
            for key, conversation in zip(keys, conversations, strict=True)
            if answers[key] is None
        }
        room, before = len(waiting), self.usage.calls
        if self._max_calls is not None:
            room = min(room, max(0, self._max_calls - before))
        self._ask(dict(list(waiting.items())[:room]), answers, progress)
        if room and self.usage.calls == before:
            raise EndpointError(
                f"The endpoint {self._host} refuses every one of {room} questions: {self._refusal}"
            )
        if len(waiting) > room:
            raise EndpointError(
                f"The limit of {self._max_calls} calls is reached with {len(waiting) - room} "
                "answers missing; those that came are kept, so run it again with a higher "
                "--max-calls."
            )
        return [answers[key] for key in keys]

    def _ask(
        self,
        waiting: dict[str, Conversation],
        answers: dict[str, str | None],
        progress: Progress | None,
    ) -> None:
        """Ask what is waiting, a few at a time."""
        pool = ThreadPoolExecutor(self._concurrency)
        futures = {pool.submit(self._answer, key, asked): key for key, asked in waiting.items()}
        try:
            for future in as_completed(futures):
                answers[futures[future]] = future.result()
                if progress:
                    progress(1)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            self._client.close()  # ends the calls that are still open
            raise
        pool.shutdown()

    def _answer(self, key: str, conversation: Conversation) -> str | None:
        completion = self._call(conversation)
        # Each thread keeps its own answer: one that comes while another call fails is paid for too.
        with self._lock:
            if completion is None:
                self.usage.refused += 1
                return None
            try:  # the client does not check what came
                choice = completion.choices[0]
                said = choice.message.content or ""
                whole = bool(said.strip()) and getattr(choice, "finish_reason", "") not in _CUT
                answer = said.encode(errors="replace").decode()  # half a character cannot be stored
            except (AttributeError, TypeError, LookupError):
                raise self._no_completion() from None
            self.usage.calls += 1
            if isinstance(completion.usage, CompletionUsage):
                self.usage.prompt_tokens += completion.usage.prompt_tokens or 0
                self.usage.completion_tokens += completion.usage.completion_tokens or 0
            if whole:
                self._cache.put(key, self._model, conversation, answer)
            else:  # another call may give a better answer
                self.usage.incomplete += 1
            return answer

    def _call(self, conversation: Conversation) -> ChatCompletion | None:
        """One call, with the client's retries; None if the endpoint refuses this conversation."""
        options = self._options
        asked: list[ChatCompletionMessageParam] = [{"role": "user", "content": conversation.user}]
        if conversation.system:
            asked.insert(0, {"role": "system", "content": conversation.system})
        try:
            return self._client.chat.completions.create(
                model=self._model,
                messages=asked,
                **options,
            )
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            self._refusal = self._first_line(error)
            if _accepted(options, str(error)) == options:
                return None
            self._options = _accepted(options, str(error))
            return self._call(conversation)
        # The causes are left out, since they may hold the key.
        except openai.APIStatusError as error:
            raise EndpointError(
                f"The endpoint {self._host} answers {error.status_code}: "
                f"{self._first_line(error)} What was answered before is kept."
            ) from None
        except openai.APIConnectionError as error:
            raise EndpointError(
                f"The endpoint {self._host} cannot be reached: {self._first_line(error)} "
                "What was answered before is kept; see that it runs, and start again."
            ) from None
        except (openai.OpenAIError, ValueError):  # no JSON, or no text
            raise self._no_completion() from None

    def _first_line(self, error: Exception) -> str:
        """The first line of an error, without secrets."""
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        return self._safe(text if text.endswith(".") else f"{text}.")

    def _no_completion(self) -> EndpointError:
        return EndpointError(
            f"The endpoint {self._host} answers, but not with a chat completion; is "
            "OPENAI_BASE_URL right? It mostly ends in /v1."
        )


def _accepted(options: dict[str, Any], error: str) -> dict[str, Any]:
    """The options without one that an error says the model does not accept."""
    replaced = "max_completion_tokens" in error and "max_tokens" in options
    refused = "max_tokens" if replaced else "temperature" if "temperature" in error else ""
    rest = {name: value for name, value in options.items() if name != refused}
    return rest | ({"max_completion_tokens": _REASONING_TOKENS} if replaced else {})
