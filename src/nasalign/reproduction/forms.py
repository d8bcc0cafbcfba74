"""The forms of a model: untouched, tuned as in the paper, and the ablations of Tables 19 and 20."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from nasalign.adapters.adapter import Adapter, load_adapter
from nasalign.alignment import tune_rows
from nasalign.errors import NothingToFixError
from nasalign.evaluation.examples import without_evidence
from nasalign.io.files import read_json, write_json
from nasalign.io.storage import remove_folder
from nasalign.models import processes
from nasalign.nas.heads import Head
from nasalign.nasa.decisions import HeadRecord
from nasalign.nasa.head_tuning import choose_heads
from nasalign.nasa.probing import ProbingSet, check_probing_set, probe
from nasalign.reproduction.model_store import ModelStore
from nasalign.reproduction.paper_sets import PROBING
from nasalign.reproduction.sampled import SampledData
from nasalign.rivals.baselines import random_heads
from nasalign.run import Run
from nasalign.session import Session

UNTOUCHED, NASA, QUERY_ONLY = "untouched", "nasa", "query-only"
RANDOM = ("random-0", "random-1", "random-2")
"""Names of the forms; each is tuned once."""


@dataclass
class Forms:
    """The forms of one model.

    Attributes:
        store: the model.
        data: what is probed.
    """

    store: ModelStore
    data: SampledData
    _adapters: dict[str, Adapter | None] = field(default_factory=dict)

    def close(self) -> None:
        """Free the adapters and the probing set."""
        self.__dict__.pop("probing", None)
        self._adapters.clear()

    @cached_property
    def probing(self) -> ProbingSet:
        """The probing set (Section 4.1), of the paper's direction."""
        session = self.store.session_in("probing").with_settings(direction="negative")
        return probe(session, without_evidence(self.data.splits(PROBING).probing))

    def heads(self, form: str = NASA) -> list[Head]:
        """Return the heads that a form tunes, of falling single head NAS."""

        def make() -> list[Head]:
            selected = choose_heads(self.store.session.with_run(Run()), self.probing)
            if form not in RANDOM:
                return selected
            return random_heads(self.probing, len(selected), f"{self.store.settings.seed}/{form}")

        return self.store.run_in(form).cached(
            "heads.json", make, write_json, lambda path: [Head(*head) for head in read_json(path)]
        )

    def tuning(self, form: str) -> dict[str, Any]:
        """Return the heads of a form, the kept ones, its changed weights, and why none is kept."""
        run = self.store.run_in(form)
        return run.cached("tuned.json", lambda: self._tune(form), write_json, read_json)

    def adapter(self, form: str) -> Adapter | None:
        """Return the rows that a form changes; None if it changes none."""
        self.tuning(form)
        if form not in self._adapters:  # tuned by an earlier command
            saved = self.store.folder / form / "adapter"
            found = load_adapter(saved, self.store.session.model) if saved.is_dir() else None
            self._adapters[form] = found
        return self._adapters[form]

    def _tune(self, form: str) -> dict[str, Any]:
        """Run Algorithm 1 for a form, write its adapter, and leave the model as it was."""
        scope = {"k_scope": "none"} if form == QUERY_ONLY else {}
        session, heads = self.store.session_in(form).with_settings(**scope), self.heads(form)
        places = [head[:2] for head in heads]
        try:
            check_probing_set(self.probing)
        except NothingToFixError as nothing:
            return {"heads": places, "kept": [], "why": str(nothing)}
        session.run.say(f"{self.store.name}: tuning for {form}.")
        if processes.count() > 1:  # a checkpoint would take the first one ahead of the others
            session = session.with_run(Run(reporter=session.run.reporter))
        history, adapter = tune_rows(session, self.probing, heads)
        adapter.revert(session.model)
        self._adapters[form] = adapter if adapter.after else None
        if adapter.after and processes.is_first():
            adapter.save(self.store.folder / form / "adapter", session.model.name_or_path)
        kept = [one for one in history if isinstance(one, HeadRecord) and one.kept]
        if processes.is_first():
            remove_folder(self.store.folder / form / "checkpoint")
        return {
            "heads": places,
            "kept": [(one.layer, one.head) for one in kept],
            "parameters": adapter.parameters,
            "why": "" if kept else "every update was cancelled",
        }

    @contextmanager
    def tuned(self, form: str) -> Iterator[Session]:
        """Yield the model in a form, with a run in the folder of the form; put the model back."""
        adapter = None if form == UNTOUCHED else self.adapter(form)
        session = self.store.session_in(form)
        try:
            if adapter:
                adapter.apply(session.model)
            yield session
        finally:
            if adapter:
                adapter.revert(session.model)
