"""An OpenAI-compatible endpoint, with a cache on disk, retries, and a bound on what it may cost.

Base URL and key come from the environment (``OPENAI_BASE_URL``, ``OPENAI_API_KEY``) and are never
written, nor shown where an endpoint repeats them in an error. Every whole answer is in the cache as
soon as it is there, so what an interrupted run has paid for is not asked again.
"""

import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion

from nasalign.data.access import Access
from nasalign.data.answer_cache import AnswerCache
from nasalign.data.conversation import MAX_TOKENS, Conversation
from nasalign.errors import EndpointError
from nasalign.io.digests import sha256
from nasalign.progress import Progress

_REASONING_TOKENS = 4096
"""The same where a model thinks before it answers."""
_CUT = ("length", "content_filter")
"""Why an answer ends that is not whole."""
_TIMEOUT = 120.0  # seconds
_RETRIES = 6  # waiting 0.5 s at first, 8 s at most, or as long as the endpoint asks for


@dataclass
class Usage:
    """What was asked of an endpoint.

    Attributes:
        calls: answers that were paid for.
        cached: answers that were there already.
        refused: conversations that the endpoint would not answer.
        incomplete: answers that were empty or cut off; they are used, and not kept.
        prompt_tokens: tokens sent, of the calls alone.
        completion_tokens: tokens received.
    """

    calls: int = 0
    cached: int = 0
    refused: int = 0
    incomplete: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class EndpointChat:
    """Asks an OpenAI-compatible endpoint; a ``Chat``.

    Args:
        model: the endpoint's name of the model.
        cache: the SQLite file of answers, made if it is not there.
        concurrency: calls under way at once.
        max_calls: calls in all at most, those answered from the cache not counted.

    Raises:
        EndpointError: there is no key, or the cache cannot be used.
    """

    def __init__(
        self, model: str, cache: Path, *, concurrency: int = 8, max_calls: int | None = None
    ) -> None:
        self.name = f"openai:{model}"
        self.usage = Usage()
        self._model, self._concurrency, self._max_calls = model, concurrency, max_calls
        self._refusal = ""
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
        # The options that are wished for: what a model does not take is left out each time anew.
        self._way = [f"{self._host}{url.path}", self._options, _REASONING_TOKENS]

    def complete(
        self, conversations: Sequence[Conversation], progress: Progress | None = None
    ) -> list[str | None]:
        """Returns the answer to each conversation, in order; None where it was refused.

        Raises:
            EndpointError: the endpoint cannot be reached, refuses the key or the model, answers
                no chat completion, or ``max_calls`` is reached. What was answered is kept.
        """
        keys = [self._key(conversation) for conversation in conversations]
        answers = {key: self._cache.get(key) for key in keys}
        self.usage.cached += sum(answers[key] is not None for key in keys)
        if progress:
            progress(sum(answers[key] is not None for key in keys))
        waiting = {
            key: conversation
            for key, conversation in zip(keys, conversations, strict=True)
            if answers[key] is None
        }
        room = len(waiting)
        if self._max_calls is not None:
            room = min(room, max(0, self._max_calls - self.usage.calls))
        before = self.usage.calls
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
        """Asks what is waiting, a few at a time, and keeps each answer as it comes."""
        pool = ThreadPoolExecutor(self._concurrency)
        futures = {
            pool.submit(self._call, conversation): (key, conversation)
            for key, conversation in waiting.items()
        }
        left = set(futures)
        try:
            for future in as_completed(futures):
                left.discard(future)
                completion = future.result()
                if completion is None:
                    self.usage.refused += 1
                else:
                    key, conversation = futures[future]
                    answers[key] = self._keep(key, conversation, completion)
                if progress:
                    progress(1)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            self._client.close()  # ends the calls under way
            for future in left:  # answers that came together with the failure are paid for too
                if future.done() and not future.cancelled() and not future.exception():
                    completion = future.result()
                    if completion is not None:
                        self._keep(*futures[future], completion)
            raise
        pool.shutdown()

    def _call(self, conversation: Conversation) -> ChatCompletion | None:
        """One call, with the client's retries; None if the endpoint refuses this conversation."""
        options = self._options
        try:
            return self._client.chat.completions.create(
                model=self._model,
                messages=[
                    {"role": "system", "content": conversation.system},
                    {"role": "user", "content": conversation.user},
                ],
                **options,
            )
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            self._refusal = self._said(error)
            if _accepted(options, str(error)) == options:
                return None
            self._options = _accepted(options, str(error))
            return self._call(conversation)
        # The causes are left out, since they may hold the key.
        except openai.APIStatusError as error:
            raise EndpointError(
                f"The endpoint {self._host} answers {error.status_code}: "
                f"{self._said(error)} What was answered before is kept."
            ) from None
        except openai.APIConnectionError as error:
            raise EndpointError(
                f"The endpoint {self._host} cannot be reached: {self._said(error)} "
                "What was answered before is kept; see that it runs, and start again."
            ) from None
        except (openai.OpenAIError, ValueError):  # no JSON, or no text
            raise self._nonsense() from None

    def _keep(self, key: str, conversation: Conversation, completion: ChatCompletion) -> str:
        if not isinstance(completion, ChatCompletion) or not completion.choices:
            raise self._nonsense()
        try:
            choice = completion.choices[0]
            said = choice.message.content or ""
            whole = bool(said.strip()) and getattr(choice, "finish_reason", "") not in _CUT
        except (AttributeError, TypeError, KeyError):  # the client does not look at what came
            raise self._nonsense() from None
        if not isinstance(said, str):
            raise self._nonsense()
        answer = said.encode(errors="replace").decode()  # half a character cannot be kept
        self.usage.calls += 1
        if isinstance(completion.usage, CompletionUsage):
            self.usage.prompt_tokens += completion.usage.prompt_tokens or 0
            self.usage.completion_tokens += completion.usage.completion_tokens or 0
        if whole:
            self._cache.put(key, self._model, conversation, answer)
        else:  # another time it may be better, and is worth another call
            self.usage.incomplete += 1
        return answer

    def _said(self, error: Exception) -> str:
        """The first line of an error, without what is secret."""
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        return self._safe(text if text.endswith(".") else f"{text}.")

    def _nonsense(self) -> EndpointError:
        return EndpointError(
            f"The endpoint {self._host} answers, but not with a chat completion; is "
            "OPENAI_BASE_URL right? It mostly ends in /v1."
        )

    def _key(self, conversation: Conversation) -> str:
        asked = [*self._way, self._model, conversation.system, conversation.user]
        return sha256([json.dumps(asked)])


def _accepted(options: dict[str, Any], error: str) -> dict[str, Any]:
    """The options without one that an error names as not taken."""
    if "max_completion_tokens" in error and "max_tokens" in options:
        rest = {name: value for name, value in options.items() if name != "max_tokens"}
        return rest | {"max_completion_tokens": _REASONING_TOKENS}
    if "temperature" in error:
        return {name: value for name, value in options.items() if name != "temperature"}
    return options
