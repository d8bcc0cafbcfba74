"""A model in the forms that the tables compare: untouched, tuned as in the paper, and ablations.

Each form is tuned once; its adapter is kept in a folder and read back whenever it is asked for.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.adapters.adapter import Adapter, load_adapter
from nasalign.alignment import tune_rows
from nasalign.commands.job import Job
from nasalign.config import Settings
from nasalign.data.sources import Loaded, digest_of
from nasalign.data.splits import Splits
from nasalign.errors import NothingToFixError
from nasalign.evaluation.examples import Bench, without_evidence
from nasalign.io.files import read_json, write_json
from nasalign.io.storage import make_subfolder, remove_folder, seal, whole
from nasalign.nas.heads import Head
from nasalign.nasa.algorithm import HeadRecord
from nasalign.nasa.probing import ProbingSet, check_probing_set
from nasalign.nasa.stages import choose_heads, probe
from nasalign.reproduction.paper_sets import PROBING, PaperSet
from nasalign.rivals.baselines import random_heads
from nasalign.run import Run
from nasalign.run_file import check_same, read_run

UNTOUCHED, NASA, QUERY_ONLY = "untouched", "nasa", "query-only"
RANDOM = ("random-0", "random-1", "random-2")
"""Sides: the model, the paper's method, and its ablations of Tables 19 and 20."""


@dataclass
class Sides:
    """One model and its tuned forms.

    Attributes:
        job: the model and the settings; its folder is not used.
        sets: the paper's data sets.
        folder: where the adapters and the measurements of this model are kept.
    """

    job: Job
    sets: dict[str, PaperSet]
    folder: Path
    _loaded: dict[str, Loaded] = field(default_factory=dict)
    _adapters: dict[str, Adapter | None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The model's name without its owner."""
        return Path(self.job.model).name

    @property
    def settings(self) -> Settings:
        """The settings of the paper's wording."""
        return self._opened[2]

    @property
    def summary(self) -> str:
        """The model, where it ran, and what it was measured with."""
        model, settings = self._opened[0], self.settings
        facts, packages = self._facts["model"], self._facts["versions"]
        versions = ", ".join(f"{name} {number}" for name, number in packages.items())
        changed = ", ".join(f"{key} = {value}" for key, value in sorted(self.job.changes.items()))
        return (
            f"{type(model).__name__}, {facts['parameters'] / 1e6:.0f} million parameters, "
            f"{facts['dtype']} on {facts['device']}, fingerprint {facts['fingerprint'][:12]}; "
            f"{settings.evaluation_questions} questions a set at most, seed {settings.seed}; "
            f"set: {changed or 'nothing'}; {versions}."
        )

    def heads(self, side: str = NASA) -> list[Head]:
        """Returns the heads that a side tunes, of falling single head NAS."""
        selected = choose_heads(self.probing, self.settings, Run())
        if side not in RANDOM:
            return selected
        return random_heads(self.probing, len(selected), f"{self.settings.seed}/{side}")

    @cached_property
    def probing(self) -> ProbingSet:
        """The probing set (Section 4.1)."""
        model, tokenizer, chosen = self._opened
        settings = replace(chosen, direction="negative")  # the paper knows no other
        splits = self.splits(PROBING)
        return probe(
            model, tokenizer, without_evidence(splits.probing), settings, self._run("probing")
        )

    def tuning(self, side: str) -> dict[str, Any]:
        """Returns how a side came about: heads, kept ones, changed weights, and why none is."""
        self.adapter(side)
        found: dict[str, Any] = read_json(self.folder / side / "tuned.json")
        return found

    def adapter(self, side: str) -> Adapter | None:
        """Returns the rows that a side changes; None if it changes none."""
        if side not in self._adapters:
            folder = self.folder / side
            if not whole(folder / "tuned.json", self.job.run.reporter.say):
                write_json(folder / "tuned.json", self._tune(side))
                seal(folder / "tuned.json")
            model = self._opened[0]
            saved = folder / "adapter"
            self._adapters[side] = load_adapter(saved, model) if saved.is_dir() else None
        return self._adapters[side]

    def _tune(self, side: str) -> dict[str, Any]:
        """Runs Algorithm 1 for a side, writes its adapter, and leaves the model as it was."""
        model = self._opened[0]
        scope = {"k_scope": "none"} if side == QUERY_ONLY else {}
        settings = self.settings.replace(scope)
        heads, run = self.heads(side), self._run(side)
        try:
            check_probing_set(self.probing)
        except NothingToFixError as nothing:
            return {"heads": [head[:2] for head in heads], "kept": [], "why": str(nothing)}
        run.reporter.say(f"{self.name}: tuning for {side}.")
        fingerprint = str(self._facts["model"]["fingerprint"])
        history, adapter = tune_rows(model, self.probing, heads, settings, run, fingerprint)
        adapter.revert(model)
        if adapter.after:
            adapter.save(self.folder / side / "adapter", model.name_or_path)
        kept = [one for one in history if isinstance(one, HeadRecord) and one.kept]
        remove_folder(self.folder / side / "checkpoint")
        return {
            "heads": [head[:2] for head in heads],
            "kept": [(one.layer, one.head) for one in kept],
            "parameters": adapter.parameters,
            "why": "" if kept else "every update was cancelled",
        }

    @contextmanager
    def tuned(self, side: str) -> Iterator[tuple[PreTrainedModel, PreTrainedTokenizerBase]]:
        """Yields the model as a side has it, and puts it back."""
        model, tokenizer, _ = self._opened
        adapter = None if side == UNTOUCHED else self.adapter(side)
        make_subfolder(self.folder / side)
        try:
            if adapter:
                adapter.apply(model)
            yield model, tokenizer
        finally:
            if adapter:
                adapter.revert(model)

    def splits(self, name: str) -> Splits:
        """Returns what is evaluated of a data set, and what is probed."""
        chosen, probing = self.sets[name], self.sets[PROBING]
        return Splits.of(self.read(chosen.data), self.read(probing.data), self.settings.split)

    def read(self, data: str) -> Loaded:
        """Returns a data set, which is read once."""
        if data not in self._loaded:
            self._loaded[data] = self.job.read(data)
        return self._loaded[data]

    def _run(self, part: str) -> Run:
        """A run of the study's own that goes on where an earlier one ended."""
        folder = self.folder / part
        make_subfolder(folder)
        return Run(self.job.run.reporter, folder, resuming=True)

    @property
    def bench(self) -> Bench:
        """What examples are made and evaluated with."""
        return Bench(*self._opened, self.job.run)

    @property
    def _facts(self) -> dict[str, Any]:
        return self.job.run.facts

    @cached_property
    def _opened(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Settings]:
        """The model; what was measured of another one, or with other settings, is refused."""
        opened = self.job.open()
        path = self.folder / "study.json"
        facts = self._facts | {"data": {name: one.data for name, one in self.sets.items()}}
        facts["digests"] = {one.data: digest_of(one.files) for one in self.sets.values()}
        if path.exists():
            check_same(self.folder, read_run(self.folder, path.name), facts)
        make_subfolder(self.folder)
        write_json(path, facts)
        return opened
