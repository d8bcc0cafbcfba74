"""One model of a reproduction, and the folder with what was measured of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from accelerate.utils.memory import clear_device_cache

from nasalign.config import Settings
from nasalign.data.sources import digest_of
from nasalign.io.files import write_json
from nasalign.io.storage import make_subfolder
from nasalign.models import processes
from nasalign.progress import Reporter
from nasalign.reproduction.paper_sets import PaperSet
from nasalign.run import Run, versions
from nasalign.run_file import check_same, read_run
from nasalign.session import Session

FACTS = "study.json"


@dataclass
class ModelStore:
    """A model that is loaded only if something has to be measured, and its folder.

    Attributes:
        name: the model's name without its owner.
        open: loads the model.
        reporter: shows progress.
        sets: the paper's data sets.
        folder: where the adapters and the measurements of this model are kept.
        changes: settings that the user has given by name.
        asked: the model, its weights' files, how it is loaded, and the settings that were given;
            where all are those of the measurements, these are read without loading the model.
    """

    name: str
    open: Callable[[], Session]
    reporter: Reporter
    sets: Mapping[str, PaperSet]
    folder: Path
    changes: Mapping[str, Any]
    asked: Mapping[str, Any]
    _session: Session | None = None

    @property
    def session(self) -> Session:
        """The untouched model; measurements of another one, or with other settings, are refused."""
        if self._session is None:
            session = self.open()
            path = self.folder / FACTS
            facts = session.run.facts | self._expected()
            if path.exists():
                check_same(self.folder, read_run(self.folder, FACTS), facts)
            if processes.is_first():
                make_subfolder(self.folder)
                write_json(path, facts)
            processes.agreed(None)  # until it is written
            self._session = session
        return self._session

    def close(self) -> None:
        """Free the model; what was measured can still be read."""
        self._session = None
        clear_device_cache(garbage_collection=True)

    def _expected(self) -> dict[str, Any]:
        """What ``study.json`` says beside the facts of a run."""
        return {
            "data": {name: one.data for name, one in self.sets.items()},
            "digests": {one.data: digest_of(one.files) for one in self.sets.values()},
            "asked": dict(self.asked),
            "versions": versions(),
        }

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """The content of ``study.json``; the model is loaded if that is of something else."""
        stored = read_run(self.folder, FACTS) if self.measured else {}
        known = all(value == stored.get(name) for name, value in self._expected().items())
        if not processes.agreed(known):
            _ = self.session
        return read_run(self.folder, FACTS)

    @cached_property
    def settings(self) -> Settings:
        """The settings of the paper's wording."""
        return Settings().replace(self.facts["settings"])

    @property
    def measured(self) -> bool:
        """Whether anything of the model is stored."""
        return (self.folder / FACTS).exists()

    @property
    def summary(self) -> str:
        """The model, where it ran, and the settings and versions of the measurements."""
        settings, model = self.settings, self.facts["model"]
        packages = ", ".join(f"{name} {number}" for name, number in self.facts["versions"].items())
        changed = ", ".join(f"{key} = {value}" for key, value in sorted(self.changes.items()))
        return (
            f"{model['architecture']}, {model['parameters'] / 1e6:.0f} million parameters, "
            f"{model['dtype']} on {model['device']}, fingerprint {model['fingerprint'][:12]}; "
            f"{settings.evaluation_questions} questions a set at most, seed {settings.seed}; "
            f"set: {changed or 'nothing'}; {packages}."
        )

    def run_in(self, part: str) -> Run:
        """A run in a folder of the study; files that are there are reused."""
        _ = self.facts  # refused before anything is reused
        make_subfolder(self.folder / part)
        first = processes.is_first()
        return Run(self.folder / part, reporter=self.reporter, resuming=True, writes=first)

    def session_in(self, part: str) -> Session:
        """The session with a run in a folder of the study."""
        return self.session.with_run(self.run_in(part))
