"""A run: its folder, the facts for ``run.json``, and the reporter that shows its progress."""

import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.data.reading import Dropped
from nasalign.errors import NasAlignError
from nasalign.io.files import read_json, read_jsonl, write_json, write_jsonl
from nasalign.io.locks import LOCK
from nasalign.io.storage import (
    SUMS,
    check_no_links,
    is_left,
    make_subfolder,
    remove_folder,
    seal,
    storing,
    whole,
)
from nasalign.models import processes
from nasalign.models.geometry import HeadGeometry
from nasalign.models.loading import fingerprint
from nasalign.progress import Progress, Quiet, Reporter
from nasalign.run_file import as_written

LEFT_OUT = "left_out.jsonl"
_FILES = (
    "run.json",
    LEFT_OUT,
    "parametric.jsonl",
    "labelled.jsonl",
    "probing.jsonl",
    "nas.safetensors",
    "heads.json",
    "learning_rate.json",
    "tuning.jsonl",
    "joint.jsonl",
    "held_back.before.jsonl",
    "threshold.json",
    "held_back.after.jsonl",
    "side_effects.json",
    "attention.json",
    "metrics.json",
    "scenarios.json",
    "diagnosis.json",
    "comparison.json",
    "comparison.csv",
    "report.html",
)

T = TypeVar("T")


@dataclass
class Run:
    """A run directory, the facts that ``run.json`` will hold, and a reporter of progress.

    Attributes:
        folder: the run directory, or None to write nothing.
        facts: the content of ``run.json``.
        reporter: shows sentences and progress bars.
        resuming: whether verified files of an earlier, unfinished run in the folder are reused.
        writes: whether files are written; of several processes, one does.
        strict: whether a row that does not fit stops the run; else it is left out and counted.
        left_out: each row that was left out, for ``left_out.jsonl``.
    """

    folder: Path | None = None
    facts: dict[str, Any] = field(default_factory=lambda: {"timings": {}})
    reporter: Reporter = field(default_factory=Quiet)
    resuming: bool = False
    writes: bool = True
    strict: bool = False
    left_out: list[dict[str, str]] = field(default_factory=list)

    def part(self, folder: Path | None) -> "Run":
        """Return a run with the same reporter, and a folder (or none) and facts of its own."""
        return Run(folder, reporter=self.reporter, strict=self.strict)

    def say(self, text: str) -> None:
        """Show a sentence."""
        self.reporter.say(text)

    def cached(
        self,
        name: str,
        make: Callable[[], T],
        dump: Callable[[Path, T], None],
        load: Callable[[Path], T],
        also: tuple[str, ...] = (),
    ) -> T:
        """Return what a file of the run holds: read back when resuming, else made and written.

        A file counts as done once its SHA-256 is noted beside it. The facts are saved before that,
        since ``make`` may add some that are not made again when the file is reused.

        Args:
            name: path of the file in the run directory.
            make: computes the value.
            dump: writes the value to a path.
            load: reads the value from a path.
            also: names of further files that ``dump`` writes beside the first one.

        Raises:
            NasAlignError: the file is whole, but ``load`` cannot make sense of it.
        """
        names = [name, *(str(Path(name).with_name(one)) for one in also)]
        if self.folder is None:
            return make()
        # Several processes with one folder must all measure, or all read.
        found = all(self.reusable(one) for one in names)
        if processes.agreed(found) if self.resuming else found:
            with as_written(self.folder):
                return load(self.folder / name)
        value = make()
        if self.writes:
            self._keep(name, value, dump, names)
        if self.resuming:
            processes.agreed(None)  # until it is written
        return value

    def _keep(
        self, name: str, value: T, dump: Callable[[Path, T], None], names: Sequence[str]
    ) -> None:
        """Write a value, and note its files as done."""
        assert self.folder
        if (self.folder / name).parent != self.folder:
            make_subfolder((self.folder / name).parent)
        dump(self.folder / name, value)
        if "model" in self.facts:  # the runs of a comparison's rows have no run.json
            self.save()
        for one in names:
            seal(self.folder / one)

    def reusable(self, name: str) -> Path | None:
        """Return the path of a verified file of the run being resumed, or None."""
        path = self.folder / name if self.folder and self.resuming else None
        return path if path and whole(path, self.say) else None

    def write(self, name: str, content: Any) -> None:
        """Write a JSON file into the run directory, if there is one."""
        if self.folder and self.writes:
            write_json(self.folder / name, content)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Note the seconds that a stage takes under ``timings``."""
        start = time.perf_counter()
        yield
        self.facts["timings"][name] = round(time.perf_counter() - start, 3)

    @contextmanager
    def stage(self, name: str, title: str, total: int) -> Iterator[Progress]:
        """Show the progress of a stage of ``total`` samples and note its seconds."""
        with self.timed(name), self.reporter.stage(title, total) as done:
            yield done

    def drop(self, dropped: Dropped, data: str) -> None:
        """Show and note which rows of some data cannot be used, and why.

        Reasons that come from several stages add up. A run that is resumed goes through some of its
        stages again, whose counts are noted already; so a count never falls.
        """
        for sentence in dropped.sentences():
            self.say(f"{data}: {sentence}")
        for reason, rows in dropped.rows.items():
            self.left_out += [
                {"data": data, "where": one.where, "reason": reason}
                | ({"detail": one.detail} if one.detail else {})
                for one in rows
            ]
            found = sum(one["data"] == data and one["reason"] == reason for one in self.left_out)
            noted = self.facts.setdefault("dropped", {}).setdefault(data, {})
            noted[reason] = max(found, noted.get(reason, 0))

    def save(self) -> None:
        """Write ``run.json``, and every row that was left out to ``left_out.jsonl``."""
        self.write("run.json", self.facts)
        if not (self.folder and self.writes and self.left_out):
            return
        path = self.folder / LEFT_OUT
        before = read_jsonl(path) if self.resuming and path.exists() else []
        # A stage that is not run again when resuming has noted its rows before.
        rows = {json.dumps(row): row for row in [*before, *self.left_out]}
        write_jsonl(path, rows.values())


def check_folder(folder: Path, overwrite: bool) -> None:
    """Refuse a run directory that must not be written to; change nothing.

    A folder that holds only a lock or partial files counts as empty.

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
            "(align and compare can also --resume it)."
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
    """Whether a ``run.json`` names the version of nasalign, as each that nasalign writes does."""
    try:
        return isinstance(read_json(path)["versions"]["nasalign"], str)
    except (NasAlignError, LookupError, TypeError):
        return False


def make_folder(folder: Path) -> None:
    """Make the run directory and remove the files of an earlier run.

    The checksums go first and ``run.json`` last, so that a kill in between leaves a folder that can
    still be overwritten or resumed.

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
    """Return what ``run.json`` says of the model, the machine and the versions."""
    geometry = HeadGeometry.of(model)
    attention = [own for own in geometry.attention if own]
    return {
        "model": {
            "name": model.name_or_path,
            "architecture": type(model).__name__,
            "parameters": model.num_parameters(),
            "layers": geometry.layers,
            "heads": geometry.heads,
            "all_heads": len(geometry.places),
            "groups": max(own.groups for own in attention),
            "head_size": max(own.head_size for own in attention),
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": str(model.device),
            "fingerprint": fingerprint(model),
        },
        "special_tokens": {
            name: str(token) for name, token in tokenizer.special_tokens_map.items()
        },
        "versions": versions(),
        "threads": torch.get_num_threads(),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide figures."""
    packages = ("nasalign", "torch", "transformers", "peft", "accelerate", "tokenizers")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def adapter_folder(path: Path) -> Path:
    """Return the adapter folder of a run directory, or the folder itself.

    Raises:
        StorageError: the run directory holds a link.
    """
    return path / "adapter" if run_of(path) == path else path


def run_of(path: Path) -> Path | None:
    """Return the run directory that a folder is, or whose adapter it is; None if there is none.

    Raises:
        StorageError: the run directory holds a link.
    """
    run = next((place for place in (path, path.parent) if (place / "run.json").exists()), None)
    if run:
        check_no_links(run)
    return run
