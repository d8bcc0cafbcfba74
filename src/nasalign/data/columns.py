"""Which column of a user's file is which of ours, and what is said of the others."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nasalign.data.file_format import OURS, FileFormat
from nasalign.data.reading import is_missing
from nasalign.data.records import package_table
from nasalign.errors import DataError, shortened

LISTED = 20
"""Columns that a sentence names at most."""
_NEAR = {row["name"]: row["ours"].split(" or ") for row in package_table("column_names.csv")}
"""Which of ours a column of another name may be."""
_NEEDED = ("question", "context", "label", "answer")
_OTHER = re.compile(r"_(id|ids|idx|index|type|start|end|len|length|url|title)$")
_LIKE = 0.8
"""Similarity from which a name counts as misspelt: ``contxt``, ``anwser``."""


def plain_name(name: str) -> str:
    """Return a name of a column as it is compared: ``Wrong Answer`` is ``wrong_answer``."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(name))
    return re.sub(r"[\W_]+", "_", words.casefold()).strip("_")


KNOWN = frozenset({*OURS, *_NEAR})
"""Names by which the separator of a CSV file is told."""


@dataclass
class Columns:
    """The columns of a file.

    Attributes:
        path: of the file, for messages.
        format: how it is to be read.
        counts: rows that hold something, by column, in the order of the file.
        read: the file's column for each of ours that is read; after ``resolve``.
        lacking: what ``--columns`` or ``--group-by`` names and the file does not have.
    """

    path: str
    format: FileFormat
    counts: dict[str, int] = field(default_factory=dict)
    read: dict[str, str] = field(default_factory=dict)
    lacking: list[str] = field(default_factory=list)
    _wanted: dict[str, str | None] = field(default_factory=dict)

    def count(self, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """Count the cells of a row that hold something, and return those that may be read.

        Returns None where no cell of the row holds anything.
        """
        held, whole = {}, False
        for name, value in values.items():
            if name not in self.counts:
                self.counts[name] = 0
                self._wanted[name] = name if self._may_be_read(name) else None
            if is_missing(value):
                continue
            whole = True
            self.counts[name] += 1
            wanted = self._wanted[name]
            if wanted is not None:
                held[wanted] = value  # all rows share one name
        return held if whole else None

    def _may_be_read(self, name: str) -> bool:
        given = (*self.format.columns.values(), self.format.group_by or "")
        named = {plain_name(one) for one in (*given, *self.format.placeholders) if one}
        return plain_name(name) in named | set(OURS)

    def resolve(self) -> None:
        """Decide which column is which of ours.

        Raises:
            DataError: two columns could be the same of ours, one is missing, or one that is not
                read has a name that is near to one of ours that is missing.
        """
        self.read = {}
        for ours, name in self.format.columns.items():
            self._take(ours, name, f"{ours}={name}")
        if self.format.group_by:
            self._take("subject", self.format.group_by, f"--group-by {self.format.group_by}")
        taken = set(self.read.values())
        for ours in OURS:
            found = [one for one in self.counts if plain_name(one) == ours and one not in taken]
            if ours in self.read or self.format.columns.get(ours) == "" or not found:
                continue
            if len(found) > 1:
                raise DataError(
                    f"{self.path} has the columns {_listed(found)}, of which one is read as "
                    f"{ours}; say which by --columns {ours}={found[0]}."
                )
            self.read[ours] = found[0]
        self._check()

    def column(self, name: str) -> str | None:
        """Return the file's column of a name, or None; that of ours before another one."""
        return self.read.get(name) or self._find(name)

    def _find(self, name: str) -> str | None:
        if name in self.counts:
            return name
        same = [one for one in self.counts if plain_name(one) == plain_name(name)]
        return same[0] if len(same) == 1 else None

    def _take(self, ours: str, name: str, option: str) -> None:
        found = self._find(name) if name else None
        if found is not None:
            self.read[ours] = found
        elif name:
            self.lacking.append(option)

    def unread(self) -> dict[str, int]:
        """Return the columns that are not read, with the rows that hold something there."""
        used = {*self.read.values(), *map(self.column, self.format.placeholders)}
        return {name: count for name, count in self.counts.items() if count and name not in used}

    def _missing(self, ours: str) -> bool:
        return ours not in self.read and self.format.columns.get(ours) != ""

    def _near(self, name: str) -> str | None:
        """Which of ours, among those that the file lacks, a column may be."""
        plain = plain_name(name)
        ours = _NEAR.get(plain, [])
        if not ours and not _OTHER.search(plain):
            ours = difflib.get_close_matches(plain, OURS, 1, _LIKE)
        missing = [one for one in ours if self._missing(one)]
        if ours == ["answer", "label"] and missing == ["answer"]:
            return None  # "gold" beside a label is nothing that the label is about
        return missing[0] if missing else None

    def suggested(self) -> dict[str, str]:
        """Return columns that are not read, by which of ours they may be."""
        found: dict[str, str] = {}
        for name in self.unread():
            ours = self._near(name)
            if ours and ours not in found:
                found[ours] = name
        return found

    def _check(self) -> None:
        suggested, named = self.suggested(), self.format.placeholders
        needed = [one for one in ("question", "context") if one in named] if named else ["question"]
        lacks = [ours for ours in needed if ours not in self.read]
        verdict = "answer" in self.read or "label" in self.read
        optional = [ours for ours in _NEEDED if ours in suggested and ours not in lacks]
        if named:  # the template says what is used
            optional = [ours for ours in optional if ours == "label"]
        if not verdict:
            lacks.append("answer or label")
            optional = [ours for ours in optional if ours not in ("answer", "label")]
        elif "answer" in named and "answer" not in self.read:
            lacks.append("answer")
            optional = [ours for ours in optional if ours != "answer"]
        if not lacks and not optional:
            return
        says = [f"there is no column {ours}" for ours in lacks]
        says += [f"{suggested[ours]!r} is not read as {ours}" for ours in optional]
        give = ",".join(f"{ours}={suggested[ours]}" for ours in _NEEDED if ours in suggested)
        ways = [f"give --columns {give or 'question=COLUMN,answer=COLUMN'}"]
        if optional:
            empty = ",".join(f"{ours}=" for ours in optional)
            ways.append(f"--columns {empty} to read the file without it")
        raise DataError(
            f"{self.path}: {', and '.join(says)}; {', or '.join(ways)}. Its columns are "
            f"{_listed(self.counts)}{self._lacks()}."
        )

    def _lacks(self) -> str:
        return f" (it lacks {', '.join(self.lacking)})" if self.lacking else ""

    def sentences(self) -> list[str]:
        """Return a sentence on the columns that are not read, if there are any."""
        unread = self.unread()
        if not unread:
            return []
        said = [f"{shortened(name, 60)} ({count})" for name, count in unread.items()]
        more = f" and {len(said) - LISTED} more" if len(said) > LISTED else ""
        hint = ",".join(f"{ours}={name}" for ours, name in self.suggested().items())
        hint = f" To read one: --columns {hint}." if hint else ""
        return [
            f"Columns that are not read, with their rows: {', '.join(said[:LISTED])}{more}.{hint}"
        ]


def _listed(names: Iterable[str]) -> str:
    every = [shortened(name, 60) for name in names]
    more = f" and {len(every) - LISTED} more" if len(every) > LISTED else ""
    return f"{', '.join(every[:LISTED]) or 'none'}{more}"


def columns_found(columns: Columns) -> str:
    """Return the names of the columns of a file, for the message of a broken row."""
    return _listed(columns.counts)
