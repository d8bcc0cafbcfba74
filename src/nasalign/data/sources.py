"""The named data sets: where each lies on the hub, and how its rows are read."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nasalign.data import layouts
from nasalign.data.hub import silence_of_the_hub
from nasalign.data.reading import Drop, Dropped, Row, read_rows
from nasalign.data.records import Question, Record, load_facts
from nasalign.data.user_file import load_file
from nasalign.errors import DataError
from nasalign.io.digests import sha256

_NO_NAME = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
"""Signs that some disk does not have in a name."""


@dataclass(frozen=True)
class Source:
    """A data set of the paper.

    Attributes:
        layout: reads a row.
        hub: its id on the hub.
        splits: the splits that are read, one after the other.
        configs: its configurations on the hub; one of None where it has none.
        revision: the commit that is read unless another is asked for.
        paper: positives and negatives of Table 8, where the paper has the set.
        whole: whether an evaluation takes all of it, as the paper does, or its test split.
    """

    layout: layouts.Layout
    hub: str
    splits: tuple[str, ...]
    configs: tuple[str | None, ...] = (None,)
    revision: str = "main"
    paper: tuple[int, int] | None = None
    whole: bool = True


_MATH_SUBJECTS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)
_METAMATH: dict[str, Any] = {
    "hub": "meta-math/MetaMathQA",
    "splits": ("train",),
    "revision": "aa4f34d3d2d3231299b5b03d9b3e5a20da45aa18",
}

SOURCES = {
    "hotpotqa": Source(
        layouts.hotpotqa,
        "hotpotqa/hotpot_qa",
        ("validation",),
        configs=("distractor",),
        revision="1908d6afbbead072334abe2965f91bd2709910ab",
        whole=False,
    ),
    "strategyqa": Source(
        layouts.strategyqa,
        "ChilleD/StrategyQA",
        ("train", "test"),
        revision="705562638fe1d8ca6bb98c66fc8f94d45fda8c83",
        paper=(1071, 1219),
    ),
    "musique": Source(
        layouts.musique,
        "dgslibisey/MuSiQue",
        ("validation",),
        revision="c8f4f8c9465fb69d31a8eae894c3fd509c4ca321",
        paper=(1208, 1208),
    ),
    "gsm8k-rephrased": Source(layouts.metamath("GSM_Rephrased"), paper=(1001, 999), **_METAMATH),
    "math-rephrased": Source(layouts.metamath("MATH_Rephrased"), paper=(1000, 1000), **_METAMATH),
    "gsm8k": Source(
        layouts.gsm8k,
        "openai/gsm8k",
        ("test",),
        configs=("main",),
        revision="cc7b047b6e5bb11b4f1af84efc572db110a51b3c",
    ),
    "math": Source(
        layouts.mathematics,
        "EleutherAI/hendrycks_math",
        ("test",),
        configs=_MATH_SUBJECTS,
        revision="21a5633873b6a120296cce3e2df9d5550074f4a3",
    ),
    "ar-lsat": Source(
        layouts.ar_lsat, "olegbask/AR-LSAT", ("train", "validation", "test"), paper=(820, 777)
    ),
}


@dataclass(frozen=True)
class Loaded:
    """A data set that has been read.

    Attributes:
        name: its name, or a file's stem.
        records: questions and yes/no examples, in the order of the data.
        dropped: what could not be used, counted by reason.
        origin: where it came from: ``embedded``, files, or a hub id with its revision.
        digest: SHA-256 of the files as they are, one after the other, or else of the records.
        source: what it is, if it was read as a named data set; a file that is called like one is
            none.
    """

    name: str
    records: list[Record]
    dropped: Dropped = field(default_factory=Dropped)
    origin: str = ""
    digest: str = ""
    source: Source | None = None

    @property
    def questions(self) -> list[Question]:
        """The short-answer questions among the records."""
        return [record for record in self.records if isinstance(record, Question)]


def distinct(names: Sequence[str]) -> list[str]:
    """Returns names of data sets as they are, with a number where another has the name already.

    Files are called after them, so names that differ only in what some disk does not tell apart are
    the same: case, ways of writing an accent, signs that no name may have there.
    """
    found: list[str] = []
    taken: set[str] = set()
    for place, name in enumerate(names):
        free, number = name, place
        while _on_disk(free) in taken:
            free, number = f"{name}-{number}", number + 1
        found.append(free)
        taken.add(_on_disk(free))
    return found


def _on_disk(name: str) -> str:
    folded = unicodedata.normalize("NFKC", name).casefold()
    return _NO_NAME.sub("_", unicodedata.normalize("NFKC", folded))


def load_data(name: str, files: Sequence[Path] = (), revision: str | None = None) -> Loaded:
    """Reads ``facts``, a named data set, or a user's file.

    Args:
        name: ``facts``, a key of ``SOURCES``, or the path of a .jsonl, .json or .csv file.
        files: local files in the upstream layout, or one folder in the hub's layout, to read a
            named data set from; the hub unless given.
        revision: the commit of a data set on the hub; the pinned one unless given.

    Raises:
        DataError: there is no such data, it cannot be had, or it is broken.
    """
    if name in SOURCES:
        return _load_source(name, files, revision)
    if files:
        raise DataError(f"A local source is for a named data set, not for {name!r}.")
    if name == "facts":
        facts: list[Record] = list(load_facts())
        return Loaded("facts", facts, origin="embedded", digest=digest_of((), facts))
    path = Path(name)
    if not path.suffix:
        known = ", ".join(["facts", *SOURCES])
        raise DataError(f"There is no data {name!r}: it is neither a file nor one of {known}.")
    records = load_file(path)
    return Loaded(path.stem, records, origin=str(path), digest=digest_of([path], records))


def _load_source(name: str, files: Sequence[Path], revision: str | None) -> Loaded:
    source = SOURCES[name]
    rows: Iterator[Row]
    if files and files[0].is_dir():
        origin = str(files[0])
        rows = _hub_rows(name, source, origin, None)
    elif files:
        origin = ", ".join(map(str, files))
        every = (row for path in files for row in read_rows(path))
        rows = (replace(row, number=number) for number, row in enumerate(every, start=1))
    else:
        commit = revision or source.revision
        origin = f"{source.hub}@{commit}"
        rows = _hub_rows(name, source, source.hub, commit)
    loaded = Loaded(name, [], origin=origin, source=source)
    seen: set[str] = set()
    for row in rows:
        try:
            for record in source.layout(row):
                if record.id in seen:
                    loaded.dropped.add("its id is there already", f"{row.where}, {record.id}")
                    continue
                seen.add(record.id)
                loaded.records.append(record)
        except Drop as reason:
            loaded.dropped.add(str(reason), row.where)
    if not loaded.records:
        said = " ".join(loaded.dropped.sentences()) or "it holds no rows."
        raise DataError(f"{origin} gives no question of {name}: {said}")
    return replace(loaded, digest=digest_of(files, loaded.records))


def digest_of(files: Sequence[Path], records: Sequence[Record] = ()) -> str:
    """Returns the SHA-256 of files, or of records where there is none that can be read twice."""
    return sha256(files if files and all(path.is_file() for path in files) else map(repr, records))


def _hub_rows(name: str, source: Source, place: str, revision: str | None) -> Iterator[Row]:
    """Streams the rows of a data set on the hub, or of a folder in the hub's layout."""
    import datasets  # takes a second, and only this needs it
    from huggingface_hub.errors import HfHubHTTPError

    silence = silence_of_the_hub(place, dataset=True) if revision else ""
    if silence:
        raise DataError(
            f"The data set {name} cannot be read: {silence}. Give a local copy with --source FILE."
        )
    datasets.disable_progress_bars()
    number = 0
    for config in source.configs:
        for split in source.splits:
            part = "/".join(filter(None, (place, config, split)))
            try:
                stream = datasets.load_dataset(
                    place, config, split=split, revision=revision, streaming=True
                )
                for values in stream:
                    number += 1
                    yield Row(f"{part}, row {number}", number, values)
            except (OSError, ValueError, RuntimeError, HfHubHTTPError) as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise DataError(
                    f"The data set {name} cannot be read from {part}: {reason} Give a local copy "
                    "with --source FILE."
                ) from error
