"""A run: its directory, whom it tells and asks, and what ``run.json`` says of it."""

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.config import Settings
from nasalign.data.conversation import MAX_TOKENS, Chat
from nasalign.data.reading import Dropped
from nasalign.errors import NasAlignError
from nasalign.extras import require
from nasalign.inference.generation import ModelChat
from nasalign.io.files import read_json, write_json
from nasalign.io.locks import LOCK
from nasalign.io.storage import (
    SUMS,
    cache_folder,
    check_no_links,
    is_left,
    remove_folder,
    seal,
    storing,
    whole,
)
from nasalign.models import processes
from nasalign.models.geometry import HeadGeometry
from nasalign.models.loading import fingerprint
from nasalign.progress import Progress, Quiet, Reporter

if TYPE_CHECKING:
    from nasalign.data.endpoint import EndpointChat

_FILES = (
    "run.json",
    "parametric.jsonl",
    "probing.jsonl",
    "nas.safetensors",
    "heads.json",
    "tuning.jsonl",
    "joint.jsonl",
    "side_effects.json",
    "attention.json",
    "metrics.json",
    "scenarios.json",
    "diagnosis.json",
    "comparison.json",
    "comparison.csv",
    "report.html",
)


@dataclass
class Run:
    """Where a run writes, whom it tells, and what ``run.json`` will say.

    Attributes:
        reporter: shows the stages.
        folder: the run directory, or None to write nothing.
        facts: the content of ``run.json``.
        resuming: whether the folder has what an earlier, unfinished run left.
    """

    reporter: Reporter = field(default_factory=Quiet)
    folder: Path | None = None
    facts: dict[str, Any] = field(default_factory=lambda: {"timings": {}})
    resuming: bool = False
    _endpoints: "dict[str, EndpointChat]" = field(default_factory=dict)

    def part(self, folder: Path | None) -> "Run":
        """Returns a run within this one: it has a folder and facts of its own, or no folder."""
        return Run(self.reporter, folder, _endpoints=self._endpoints)

    def left(self, name: str) -> Path | None:
        """Returns a file that the run this one goes on with has written and sealed, or None.

        One that is not what was written counts as none, and that is told.
        """
        path = self.folder / name if self.folder and self.resuming else None
        return path if path and whole(path, self.reporter.say) else None

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Notes the seconds that a stage takes under ``timings``."""
        start = time.perf_counter()
        yield
        self.facts["timings"][name] = round(time.perf_counter() - start, 3)

    @contextmanager
    def stage(self, name: str, title: str, total: int) -> Iterator[Progress]:
        """Shows a stage of ``total`` samples and notes its seconds."""
        with self.timed(name), self.reporter.stage(title, total) as done:
            yield done

    @contextmanager
    def asking(self, name: str, title: str, total: int, chat: Chat | None) -> Iterator[Progress]:
        """The same for a stage that asks a model beside the study; tells what that has taken."""
        if chat is None:  # nobody is asked, so it takes no time
            yield lambda done: None
            return
        try:
            with self.stage(name, f"{title} ({chat.name})", total) as done:
                yield done
        finally:
            endpoint = self._endpoints.get(chat.name.removeprefix("openai:"))
            if endpoint:
                self._say_usage(endpoint)

    def chat(
        self,
        who: str,
        settings: Settings,
        model: PreTrainedModel | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> Chat | None:
        """Returns whom the settings ``judge`` or ``generator`` name; None for the rules.

        Raises:
            NasAlignError: it cannot be asked.
        """
        if who in ("match", "rules"):
            return None
        if who == "self":
            if model is None or tokenizer is None:
                raise NasAlignError("There is no model here that could be asked; name an endpoint.")
            return ModelChat(model, tokenizer, MAX_TOKENS, settings.batch_size)
        require("judge")
        from nasalign.data.endpoint import EndpointChat

        name = who.removeprefix("openai:")
        if name not in self._endpoints:
            chat = EndpointChat(
                name,
                cache_folder() / "answers.sqlite",
                concurrency=settings.concurrency,
                max_calls=settings.max_calls,
            )
            if chat.exposed and not self._endpoints:
                self.reporter.say(
                    f"Warning: OPENAI_BASE_URL is plain http, so the key goes to {chat.exposed} in "
                    "clear; use https."
                )
            self._endpoints[name] = chat
        chat = self._endpoints[name]
        return chat if processes.count() == 1 else processes.FirstProcessChat(chat)

    def drop(self, dropped: Dropped, data: str) -> None:
        """Tells and notes what could not be used of some data."""
        for sentence in dropped.sentences():
            self.reporter.say(f"{data}: {sentence}")
        if dropped.counts:
            noted = self.facts.setdefault("dropped", {}).setdefault(data, {})
            noted |= dropped.counts

    def _say_usage(self, chat: "EndpointChat") -> None:
        usage = chat.usage
        self.facts.setdefault("endpoints", {})[chat.name] = asdict(usage)
        refused = f", {usage.refused} refused" if usage.refused else ""
        if usage.incomplete:
            refused += f", {usage.incomplete} empty or cut off (not kept in the cache)"
        self.reporter.say(
            f"{chat.name}: {usage.calls} calls{refused}, {usage.cached} answers from the cache; "
            f"{usage.prompt_tokens:,} tokens sent, {usage.completion_tokens:,} received."
        )

    def save(self) -> None:
        """Writes ``run.json``."""
        if self.folder:
            write_json(self.folder / "run.json", self.facts)

    def seal(self, name: str) -> None:
        """Notes that a file of the run directory is whole.

        The facts are saved first: those of its stage are not made again where the file is kept.
        """
        if self.folder:
            self.save()
            seal(self.folder / name)


def check_folder(folder: Path, overwrite: bool) -> None:
    """Refuses a run directory that must not be written to; touches nothing.

    A folder with nothing but what a run leaves that is killed before it begins counts as empty.

    Raises:
        NasAlignError: it is there already and ``overwrite`` is false, or it holds something else,
            or a link.
    """
    if folder.exists() and not folder.is_dir():
        raise NasAlignError(f"{folder} is a file, so no run can be written there.")
    found = [path.name for path in folder.iterdir()] if folder.exists() else []
    empty = all(name == LOCK or is_left(name) for name in found)
    if not empty and not overwrite:
        raise NasAlignError(
            f"The folder {folder} is there already; choose another --out, or give --overwrite "
            "(align and compare also go on with --resume)."
        )
    if not empty and "run.json" not in found:
        raise NasAlignError(f"The folder {folder} holds no run, so it is not overwritten.")
    check_no_links(folder)
    if not empty and not _is_ours(folder / "run.json"):
        raise NasAlignError(
            f"{folder / 'run.json'} does not say that nasalign wrote it, so {folder} is not "
            "overwritten; take another --out, or remove the folder yourself."
        )


def _is_ours(path: Path) -> bool:
    """Says whether a ``run.json`` names the version of nasalign, as each that it writes does."""
    try:
        return isinstance(read_json(path)["versions"]["nasalign"], str)
    except (NasAlignError, LookupError, TypeError):
        return False


def make_folder(folder: Path) -> None:
    """Makes the run directory and removes what an earlier run left in it.

    What tells that a file is whole goes first and ``run.json`` last: a kill in between leaves a run
    that can be overwritten, or gone on with by doing it all again.

    Raises:
        StorageError: it cannot be written.
    """
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("checkpoint", "adapter", "eval", "compare"):
            remove_folder(folder / name)
        for name in (SUMS, *reversed(_FILES)):
            (folder / name).unlink(missing_ok=True)


def describe(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Returns what ``run.json`` says of the model, the machine and the versions."""
    geometry = HeadGeometry.of(model)
    packages = ("nasalign", "torch", "transformers", "peft", "accelerate", "tokenizers")
    return {
        "model": {
            "name": model.name_or_path,
            "architecture": type(model).__name__,
            "parameters": model.num_parameters(),
            "layers": geometry.layers,
            "heads": geometry.heads,
            "groups": geometry.groups,
            "head_size": geometry.head_size,
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": str(model.device),
            "fingerprint": fingerprint(model),
        },
        "special_tokens": {
            name: str(token) for name, token in tokenizer.special_tokens_map.items()
        },
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in packages},
        "threads": torch.get_num_threads(),
    }
