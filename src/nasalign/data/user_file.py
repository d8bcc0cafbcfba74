"""A user's own questions: which columns hold what is told from the whole file."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasalign.data.columns import KNOWN, Columns, columns_found
from nasalign.data.file_format import FileFormat
from nasalign.data.reading import Dropped, Row
from nasalign.data.records import Record
from nasalign.data.row_files import read_data_rows
from nasalign.data.user_rows import FileReader
from nasalign.errors import DataError


@dataclass(frozen=True)
class UserFile:
    """A user's file that has been read.

    Attributes:
        records: in the order of the file.
        dropped: rows that were left out.
        notes: sentences on the columns that are not read and on the verdicts.
        facts: the same for ``run.json``.
        lacking: options of ``FileFormat`` that nothing in the file fits.
        found: its columns, for messages.
    """

    records: list[Record]
    dropped: Dropped
    notes: list[str]
    facts: dict[str, Any]
    lacking: list[str]
    found: str = ""


def load_file(
    path: str | Path, how: FileFormat | None = None, revision: str | None = None
) -> UserFile:
    """Read a file (see ``row_files``), a folder of ``datasets``, or a data set of the hub.

    Its columns are ``question``, ``answer`` and those of ``file_format.OURS``. A row with a
    ``label``, or whose answer is a verdict such as yes or false, is a yes/no example; any other is
    a short-answer question. A row that does not fit is left out and counted.

    Args:
        path: the file, the folder, or ``OWNER/NAME``, ``OWNER/NAME/CONFIGURATION/SPLIT``.
        how: how it is to be read.
        revision: of a data set of the hub; the newest unless given.

    Raises:
        DataError: it cannot be read or is empty, its columns or verdicts are not clear, or, if
            ``how`` is strict, a row does not fit.
    """
    how = how or FileFormat()
    known = KNOWN | {name.casefold() for name in (*how.columns.values(), how.group_by or "")}
    columns, dropped = Columns(str(path), how), Dropped()
    rows: deque[Row] = deque()
    saved = any((Path(path) / one).exists() for one in ("state.json", "dataset_dict.json"))
    here = saved or (Path(path).suffix and not Path(path).is_dir())
    for row in read_data_rows(path, known) if here else _from_hub(str(path), revision):
        held = columns.count(row.values)
        if held is None:
            dropped.add("the row is empty", row.where)
        else:
            rows.append(Row(row.where, row.number, held))
    if not rows:
        raise DataError(f"{path} holds no rows.")
    columns.resolve()
    reader = FileReader(columns, how, dropped)
    records = reader.read(rows)
    lacking, found = columns.lacking, columns_found(columns)
    return UserFile(records, dropped, reader.notes(), reader.facts(), lacking, found)


def _from_hub(name: str, revision: str | None) -> Iterator[Row]:
    from nasalign.data.hub import hub_rows  # takes as long to import as all the rest

    return hub_rows(name, revision)
