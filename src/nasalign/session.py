"""A session: a model in memory with its tokenizer, settings and run."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.config import Scenario, Settings, load_preset
from nasalign.data.conversation import MAX_TOKENS, Chat
from nasalign.data.records import BinaryExample
from nasalign.errors import NasAlignError
from nasalign.extras import require
from nasalign.inference.generation import ModelChat
from nasalign.inference.kept_results import KeptResults
from nasalign.io.storage import cache_folder
from nasalign.models import processes
from nasalign.progress import Progress
from nasalign.prompts.builder import PromptBuilder
from nasalign.run import Run, describe

if TYPE_CHECKING:  # the package openai is an extra
    from nasalign.data.endpoint import EndpointChat


@dataclass
class Endpoints:
    """The judging and generating endpoints of a command; each counts its calls over all stages."""

    opened: "dict[str, EndpointChat]" = field(default_factory=dict)

    def chat(
        self, who: str, settings: Settings, run: Run, own: Callable[[], Chat] | None = None
    ) -> Chat | None:
        """Return the model that a setting ``judge`` or ``generator`` names; None for the rules.

        Args:
            who: value of the setting.
            settings: ``concurrency`` and ``max_calls``.
            run: shows a warning about an endpoint without encryption.
            own: makes a chat with the model at hand, for ``self``.

        Raises:
            NasAlignError: there is no model at hand, or the endpoint is not configured.
        """
        if who in ("match", "rules"):
            return None
        if who == "self":
            if own is None:
                raise NasAlignError("There is no model here that could be asked; name an endpoint.")
            return own()
        require("judge")
        from nasalign.data.endpoint import EndpointChat

        name = who.removeprefix("openai:")
        if name not in self.opened:
            cache = cache_folder() / "answers.sqlite"
            chat = EndpointChat(
                name, cache, concurrency=settings.concurrency, max_calls=settings.max_calls
            )
            if chat.exposed and not self.opened:
                run.say(
                    f"Warning: OPENAI_BASE_URL is plain http, so the key goes to {chat.exposed} in "
                    "clear; use https."
                )
            self.opened[name] = chat
        chat = self.opened[name]
        return chat if processes.count() == 1 else processes.FirstProcessChat(chat)

    @contextmanager
    def stage(
        self, run: Run, name: str, title: str, total: int, chat: Chat | None
    ) -> Iterator[Progress]:
        """Like ``Run.stage``, for judge and generator calls; reports token usage."""
        if chat is None:  # the rules take no time
            yield lambda done: None
            return
        try:
            with run.stage(name, f"{title} ({chat.name})", total) as done:
                yield done
        finally:
            endpoint = self.opened.get(chat.name.removeprefix("openai:"))
            if endpoint:
                _report_usage(endpoint, run)


def _report_usage(endpoint: "EndpointChat", run: Run) -> None:
    usage = endpoint.usage
    run.facts.setdefault("endpoints", {})[endpoint.name] = asdict(usage)
    refused = f", {usage.refused} refused" if usage.refused else ""
    if usage.incomplete:
        refused += f", {usage.incomplete} empty or cut off (not kept in the cache)"
    run.say(
        f"{endpoint.name}: {usage.calls} calls{refused}, {usage.cached} answers from the cache; "
        f"{usage.prompt_tokens:,} tokens sent, {usage.completion_tokens:,} received."
    )


@dataclass(frozen=True)
class Session:
    """A model in memory and what every stage needs beside it.

    Attributes:
        model: the model; stages that change it say so.
        tokenizer: its tokenizer.
        settings: of prompts, tuning and evaluation.
        run: where results are written and progress is shown.
        fingerprint: of the untouched model's weights (``models.loading.fingerprint``).
        endpoints: opened judge and generator endpoints.
        kept: results of the untouched model from earlier runs, if they are to be reused.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    settings: Settings
    run: Run = field(default_factory=Run)
    fingerprint: str = ""
    endpoints: Endpoints = field(default_factory=Endpoints)
    kept: KeptResults | None = None

    @classmethod
    def start(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: Settings | None = None,
        run: Run | None = None,
        endpoints: Endpoints | None = None,
    ) -> "Session":
        """Begin a session with an untouched model; note the model and settings in the run.

        The parameters of the model no longer require gradients afterwards. Chat templates are told
        the date of today all the time, unless the settings have another.
        """
        run, settings = run or Run(), settings or load_preset()
        settings = settings.replace({"date": settings.date or time.strftime("%Y-%m-%d")})
        model.requires_grad_(False).eval()
        run.facts |= describe(model, tokenizer) | {"settings": settings.as_dict()}
        fingerprint = str(run.facts["model"]["fingerprint"])
        return cls(model, tokenizer, settings, run, fingerprint, endpoints or Endpoints())

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Let what the model is asked inside be read from earlier runs, and kept for later ones.

        The model must be untouched.
        """
        if self.kept is None:
            yield
            return
        before = dict(self.kept.reused)
        with self.kept.active():
            yield
        new = {kind: n - before.get(kind, 0) for kind, n in self.kept.reused.items()}
        if any(new.values()):
            what = " and ".join(f"{n} {kind}" for kind, n in new.items() if n)
            self.run.facts["reused"] = dict(self.kept.reused)
            self.run.say(f"  ({what} of this model are kept from an earlier run)")

    def with_settings(self, **changes: Any) -> "Session":
        """Return the same session with some settings changed."""
        return replace(self, settings=self.settings.replace(changes))

    def with_run(self, run: Run) -> "Session":
        """Return the same session with another run."""
        return replace(self, run=run)

    def builder(
        self, shots: Sequence[BinaryExample] = (), scenario: Scenario = "plain"
    ) -> PromptBuilder:
        """Return the builder of prompts; heads are tuned in the scenario ``plain`` alone."""
        return PromptBuilder.of(self.tokenizer, self.settings, shots, scenario)

    def chat(self, who: str) -> Chat | None:
        """Return the model that a setting ``judge`` or ``generator`` names; None for the rules.

        Raises:
            NasAlignError: the endpoint is not configured.
        """

        def own() -> Chat:
            settings = self.settings
            size, today = settings.batch_size, settings.date
            return ModelChat(self.model, self.tokenizer, MAX_TOKENS, size, today)

        return self.endpoints.chat(who, self.settings, self.run, own)

    @contextmanager
    def asking(self, name: str, title: str, total: int, chat: Chat | None) -> Iterator[Progress]:
        """Like ``Run.stage``, for judge and generator calls; reports token usage."""
        with self.endpoints.stage(self.run, name, title, total, chat) as done:
            yield done
