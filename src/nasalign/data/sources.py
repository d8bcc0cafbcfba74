"""The named data sets and a user's file: where they are, and how their rows are read."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, product
from pathlib import Path

from nasalign.data import layouts
from nasalign.data.file_format import FileFormat
from nasalign.data.reading import Drop, Dropped, Row, numbered
from nasalign.data.records import BinaryExample, Question, Record, load_facts, package_table
from nasalign.data.row_files import read_data_rows
from nasalign.data.user_file import UserFile, load_file
from nasalign.errors import DataError, did_you_mean
from nasalign.io.digests import sha256

_NO_NAME = re.compile(r'[<>:"/\\|?*\x00-\x1f]')  # some file system does not allow them in a name
_LAYOUTS: dict[str, layouts.Layout] = {
    "hotpotqa": layouts.hotpotqa,
    "strategyqa": layouts.strategyqa,
    "musique": layouts.musique,
    "gsm8k-rephrased": layouts.metamath("GSM_Rephrased"),
    "math-rephrased": layouts.metamath("MATH_Rephrased"),
    "gsm8k": layouts.gsm8k,
    "math": layouts.mathematics,
    "ar-lsat": layouts.ar_lsat,
}


@dataclass(frozen=True)
class Source:
    """A data set of the paper: a row of ``sources.csv``."""

    layout: layouts.Layout  # reads a row
    hub: str  # its id on the hub
    revision: str  # the commit that is read unless another is asked for
    configs: tuple[str | None, ...]  # its configurations on the hub; one of None if it has none
    splits: tuple[str, ...]  # read one after the other
    paper: tuple[int, int] | None  # positives and negatives of Table 8, if the paper has the set
    whole: bool  # whether an evaluation takes all of it, or its test split


SOURCES = {
    row["name"]: Source(
        layout=_LAYOUTS[row["name"]],
        hub=row["hub"],
        revision=row["revision"],
        configs=tuple(config or None for config in row["configs"].split("|")),
        splits=tuple(row["splits"].split("|")),
        paper=(int(row["positives"]), int(row["negatives"])) if row["positives"] else None,
        whole=row["whole"] == "yes",
    )
    for row in package_table("sources.csv")
}


@dataclass(frozen=True)
class Loaded:
    """A data set that has been read."""

    name: str  # or a file's stem
    records: list[Record]  # in the order of the data
    dropped: Dropped = field(default_factory=Dropped)  # rows that could not be used
    origin: str = ""  # "embedded", files, or a hub id with its revision
    digest: str = ""  # see ``digest_of``
    source: Source | None = None  # None for a file, even one that is called like a named data set
    file: UserFile | None = None  # what was found in a user's file

    @property
    def questions(self) -> list[Question]:
        """The short-answer questions among the records."""
        return [record for record in self.records if isinstance(record, Question)]


def distinct(names: Sequence[str]) -> list[str]:
    """Return the names of data sets, with a number added where another has the name already.

    Files are called after them, so two names are the same if some file system cannot tell them
    apart: by case, by how an accent is encoded, or by characters that it does not allow.
    """
    found: dict[str, str] = {}  # by the name on disk
    for place, name in enumerate(names):
        free, number = name, place
        while _on_disk(free) in found:
            free, number = f"{name}-{number}", number + 1
        found[_on_disk(free)] = free
    return list(found.values())


def _on_disk(name: str) -> str:
    folded = unicodedata.normalize("NFKC", name).casefold()
    return _NO_NAME.sub("_", unicodedata.normalize("NFKC", folded))


def load_data(
    name: str,
    files: Sequence[str | Path] = (),
    revision: str | None = None,
    how: FileFormat | None = None,
) -> Loaded:
    """Read ``facts``, a key of ``SOURCES``, or a user's own data (``user_file.load_file``).

    A named data set is read from local ``files`` in the upstream layout, from one folder in the
    hub's layout, or from the hub, at the pinned commit unless another ``revision`` is given.

    Raises:
        DataError: there is no such data, or it cannot be read ``how`` it should be.
    """
    if name in SOURCES:
        return _load_source(name, [Path(file) for file in files], revision)
    if files:
        raise DataError(f"A local source is for a named data set, not for {name!r}.")
    if name == "facts":
        facts: list[Record] = list(load_facts())
        return Loaded("facts", facts, origin="embedded", digest=digest_of((), facts))
    path = Path(name)
    check_data_name(name)
    file = load_file(name, how, revision)
    digest = digest_of([path], file.records)
    return Loaded(_stem(path), file.records, file.dropped, name, digest, file=file)


def check_data_name(name: str) -> None:
    """Refuse a name that is neither a data set nor may be a file or OWNER/NAME on the hub.

    Raises:
        DataError: names the data sets that there are.
    """
    path, known = Path(name), ["facts", *SOURCES]
    if name in known or path.suffix or path.exists() or "/" in name:
        return
    raise DataError(
        f"There is no data {name!r}: it is neither a file, nor a folder, nor OWNER/NAME on the "
        f"hub, nor one of {', '.join(known)}.{did_you_mean(name, known)}"
    )


def _stem(path: Path) -> str:
    """What a user's data is called: a file without its endings, and the hub's without its owner."""
    if not path.suffix:
        return path.name if path.exists() else "-".join(path.parts[1:])
    return Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem


def _load_source(name: str, files: Sequence[Path], revision: str | None) -> Loaded:
    source = SOURCES[name]
    rows: Iterator[Row]
    if files and files[0].is_dir():
        origin = str(files[0])
        rows = _hub_rows(name, source, origin, None)
    elif files:
        origin = ", ".join(map(str, files))
        every = (row for path in files for row in read_data_rows(path))
        rows = (replace(row, number=number) for number, row in enumerate(every, start=1))
    else:
        commit = revision or source.revision
        origin = f"{source.hub}@{commit}"
        rows = _hub_rows(name, source, source.hub, commit)
    records: dict[str, Record] = {}
    dropped = Dropped()
    for row in rows:
        try:
            for record in source.layout(row):
                if record.id in records:
                    dropped.add("its id is there already", f"{row.where}, {record.id}")
                else:
                    records[record.id] = replace(record, where=row.where)
        except Drop as reason:
            dropped.add(str(reason), row.where)
    if not records:
        said = " ".join(dropped.sentences()) or "it holds no rows."
        raise DataError(f"{origin} gives no question of {name}: {said}")
    found = list(records.values())
    return Loaded(name, found, dropped, origin, digest_of(files, found), source)


def digest_of(files: Sequence[str | Path], records: Sequence[Record] = ()) -> str:
    """Return the SHA-256 of files, or of the records where not all can be read twice."""
    paths = [Path(path) for path in files]
    whole = paths and all(path.is_file() for path in paths)
    return sha256(paths if whole else map(_digested, records))


def _digested(record: Record) -> str:
    """A record as text; what named data sets do not have changes no digest of theirs."""
    own = record.fields or (isinstance(record, BinaryExample) and record.subject)
    return f"{record!r}{(record.subject, record.fields)!r}" if own else repr(record)


def _hub_rows(name: str, source: Source, place: str, revision: str | None) -> Iterator[Row]:
    """Stream the rows of a data set on the hub, or of a folder in the hub's layout."""
    from nasalign.data.hub import silence_of_the_hub, stream  # takes as long as all the rest

    silence = silence_of_the_hub(place, dataset=True) if revision else ""
    if silence:
        raise DataError(
            f"The data set {name} cannot be read: {silence}. Give a local copy with --source FILE."
        )
    hint = " Give a local copy with --source FILE."
    parts = product(source.configs, source.splits)
    rows = (stream(place, config, split, revision, name, hint) for config, split in parts)
    yield from numbered(chain.from_iterable(rows))
