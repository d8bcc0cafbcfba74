"""The data of a run: reading it, splitting it by subject, and further data to evaluate on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nasalign.config import Settings
from nasalign.data.file_format import FileFormat
from nasalign.data.records import Question, Record, load_facts
from nasalign.data.sources import SOURCES, Loaded, distinct, load_data
from nasalign.data.splits import Splits, labelled_rows, unseen
from nasalign.data.user_file import UserFile
from nasalign.errors import DataError
from nasalign.run import Run

LEAST_LABELLED = 40
"""Rows of either label from which on a file's own rows are tuned on, not the embedded facts."""
Further = dict[str, tuple[list[Record], list[Question]]]
"""By name: the records that are not probed, and questions whose answers may serve as wrong ones."""


@dataclass(frozen=True)
class RunData:
    """Reads the data of a run, and notes in the run what was read and what cannot be used.

    Attributes:
        run: notes origins, digests and dropped rows.
        settings: split, few-shot examples, method and revision.
        sources: local files of named data sets, by name.
        how: how a user's files are to be read.
        names: of all data that will be read; an option must fit one of them, not each.
    """

    run: Run
    settings: Settings
    sources: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    how: FileFormat = field(default_factory=FileFormat)
    names: Sequence[str] = ()
    _files: dict[str, UserFile] = field(default_factory=dict, repr=False)

    def read(self, name: str) -> Loaded:
        """Read a data set.

        Raises:
            DataError: there is no such data, or it is broken.
        """
        files, revision = self.sources.get(name, ()), self.settings.data_revision
        loaded = load_data(name, files, revision, self.how)
        self.run.facts.setdefault("digests", {})[loaded.origin] = loaded.digest
        if loaded.file:
            self._files[name] = loaded.file
            self._check_options()
            for note in loaded.file.notes:
                self.run.say(f"{loaded.name}: {note}")
            self.run.facts.setdefault("files", {})[loaded.origin] = loaded.file.facts
            if self.how.facts:
                self.run.facts["file_format"] = self.how.facts
        self.run.drop(loaded.dropped, loaded.name)
        return loaded

    def _check_options(self) -> None:
        """Refuse an option that fits none of the files, once all of them are read.

        Raises:
            DataError: names the option, and the columns of the files.
        """
        read = self._files
        named = [one for one in self.names if one != "facts" and one not in SOURCES]
        if not set(named) <= read.keys():
            return
        lacking = set.intersection(*(set(file.lacking) for file in read.values()))
        for option in sorted(lacking):
            found = "; ".join(f"{name} has {file.found}" for name, file in read.items())
            raise DataError(f"Nothing in the data fits {option}: {found}.")

    def splits(self, name: str, probing_name: str | None, *, probed: bool = True) -> Splits:
        """Read the evaluated and the probed data, and split them by subject.

        Without ``probing_name``, the data itself is probed. Where all of it is yes/no questions
        already, its labelled rows are tuned on, or the facts are probed if these are too few.

        Args:
            name: the evaluated data.
            probing_name: the probed data, or None.
            probed: whether anything is probed, rather than just evaluated.

        Raises:
            DataError: there is no such data, it is broken, or nothing of it is left to evaluate.
        """
        data = self.read(name)
        probing = data
        if probing_name not in (None, name):
            probing = self.read(str(probing_name))
        elif not data.questions and not self._tunes_on(data.records):
            probing = self.read("facts")
        facts, settings = self.run.facts, self.settings
        facts |= {"data": data.name, "data_origin": data.origin}
        facts |= {"probing_data": probing.name, "probing_origin": probing.origin}
        splits = Splits.of(data, probing, settings.split, probed=probed)
        facts["data_part"] = splits.part
        self.run.drop(splits.left_out, splits.name)
        if settings.shots:
            splits = self.holding_out(splits, settings.shots)
        if probed and settings.method == "nasa+":
            return self.apart(splits, load_facts("probing"), "nasa+ is tuned on it")
        return splits

    def _tunes_on(self, records: Sequence[Record]) -> bool:
        """Whether the labelled rows of the data are tuned on; no facts fit another template."""
        rows = labelled_rows(records)
        enough = min(sum(one.label is label for one in rows) for label in (True, False))
        return enough >= LEAST_LABELLED or not {"question", "answer"} >= set(self.how.placeholders)

    def holding_out(self, splits: Splits, count: int) -> Splits:
        """Return splits with records to make ``count`` few-shot examples of; none is evaluated.

        Raises:
            DataError: there are too few.
        """
        held = splits.holding_out(count, self.settings.seed)
        self.run.drop(held.left_out.since(splits.left_out), splits.name)
        return held

    def apart(self, splits: Splits, used: Sequence[Record], why: str) -> Splits:
        """Return splits whose evaluated part leaves out further questions, for a reason.

        Raises:
            DataError: nothing is left.
        """
        test, left_out = unseen(splits.name, splits.test, used, why)
        self.run.drop(left_out, splits.name)
        return replace(splits, test=test, used=[*splits.used, *used])

    def further(self, splits: Splits, names: Sequence[str]) -> Further:
        """Read further data to evaluate on, each with a name of its own.

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
