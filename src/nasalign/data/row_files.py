"""Rows of JSONL, JSON, CSV, Parquet and Excel files and of folders that ``datasets`` has saved."""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any, TextIO, cast

from nasalign.data.reading import Row, numbered
from nasalign.errors import DataError

KINDS = ".jsonl, .json, .csv or .tsv (or these with .gz), .parquet or .xlsx"
_SEPARATORS = ",;\t|"
_SEP_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # the first line of a CSV file of Excel
_MARKS = (  # the longer ones first
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
Pairs = Iterator[tuple[str, Any]]
"""Rows as their places and values."""


def read_data_rows(path: str | Path, known: Collection[str] = ()) -> Iterator[Row]:
    """Yield the rows of a data file, or of a folder of ``datasets.Dataset.save_to_disk``.

    All but ``.json`` and ``.xlsx`` are read row by row. ``known`` are names of columns by which the
    separator of a CSV file is told. Raise DataError if the file cannot be read or is broken; file
    and line are named.
    """
    path = Path(path)
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    suffix = suffixes[-1] if suffixes else ""
    try:
        if path.is_dir():
            yield from numbered(_saved_rows(path))
        elif suffix == ".parquet":
            yield from numbered(_parquet_rows(path))
        elif suffix in (".xlsx", ".xls"):
            yield from numbered(_excel_rows(path))
        else:
            yield from _text_rows(path, suffix, known)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"Cannot read the data file {path}: {reason}.") from error
    except (EOFError, zlib.error) as error:
        raise DataError(f"{path} is broken: {error}.") from error


def _text_rows(path: Path, suffix: str, known: Collection[str]) -> Iterator[Row]:
    """Rows of a text file."""
    readers: dict[str, Callable[[Path, TextIO], Pairs]] = {
        ".csv": lambda path, file: _csv_rows(path, file, known),
        ".json": _json_rows,
        ".jsonl": _jsonl_rows,
    }
    readers |= {".tsv": readers[".csv"], ".ndjson": _jsonl_rows}
    with _opened(path) as raw:
        mark = raw.read(4)
        raw.seek(0)
        encoding = next((name for start, name in _MARKS if mark.startswith(start)), "utf-8-sig")
        if suffix not in readers:
            raise DataError(f"{path} is not {KINDS}.")
        file = io.TextIOWrapper(raw, encoding=encoding)
        try:
            yield from numbered(readers[suffix](path, file))
        except UnicodeError as error:
            if encoding != "utf-8-sig":
                raise DataError(f"{path} is not {encoding.upper()} text: {error}.") from error
            reason = error.reason if isinstance(error, UnicodeDecodeError) else str(error)
            raise DataError(
                f"{path} is not UTF-8 text: {reason} at {_place_of_bad_byte(path)}; save it as "
                "UTF-8 (in Excel: CSV UTF-8)."
            ) from error


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file that may be packed."""
    packed = path.suffix.lower() == ".gz"
    with gzip.open(path) if packed else path.open("rb") as file:
        yield cast(IO[bytes], file)


def _csv_rows(path: Path, file: TextIO, known: Collection[str]) -> Pairs:
    csv.field_size_limit(2**31 - 1)  # a context may be long
    first, skipped = file.readline(), 0
    told = _SEP_LINE.fullmatch(first)
    while first and ((told and _SEP_LINE.fullmatch(first)) or not first.strip()):
        first, skipped = file.readline(), skipped + 1
    separator = told[1] if told else _separator(first, known)
    lines = chain([first], file)
    reader = csv.DictReader(lines, delimiter=separator, skipinitialspace=True, strict=True)
    try:
        names = [name.strip() for name in reader.fieldnames or ()]
        twice = sorted({name for name in names if name and names.count(name) > 1})
        if twice:
            raise DataError(f"{path} has the column {twice[0]!r} twice; only one could be read.")
        reader.fieldnames = names
        for values in reader:
            where = f"{path}, line {reader.line_num + skipped}"
            if None in values:
                raise DataError(
                    f"{where} has more fields than the header; quote what has a {separator!r}."
                )
            yield where, values
    except csv.Error as error:
        line = reader.line_num + skipped
        raise DataError(f"{path}, after line {line}, is not CSV: {error}.") from error


def _separator(header: str, known: Collection[str]) -> str:
    """The separator by which a header has the most known names, and then the most names."""

    def names(separator: str) -> tuple[int, int]:
        try:
            fields = next(csv.reader([header], delimiter=separator, skipinitialspace=True), [])
        except csv.Error:
            return 0, 0
        return sum(name.strip().casefold() in known for name in fields), len(fields)

    return max(_SEPARATORS, key=names)  # of equals the first


def _jsonl_rows(path: Path, file: TextIO) -> Pairs:
    for number, line in enumerate(file, start=1):
        if line.strip():
            where = f"{path}, line {number}"
            yield where, _parsed(where, line)


def _json_rows(path: Path, file: TextIO) -> Pairs:
    text = file.read()
    if text.lstrip().startswith("{") and text.strip().count("}\n{"):  # JSON lines by another name
        yield from _jsonl_rows(path, io.StringIO(text))
        return
    rows = _parsed(str(path), text)
    if not isinstance(rows, list):
        raise DataError(f"{path} must hold a JSON array of rows.")
    for number, values in enumerate(rows, start=1):
        yield f"{path}, row {number}", values


def _parsed(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = f"{f'line {error.lineno}, ' if error.lineno > 1 else ''}column {error.colno}"
        raise DataError(f"{where} is not valid JSON: {error.msg} at {at}.") from error
    except RecursionError as error:
        raise DataError(f"{where} has lists or objects nested too deep.") from error
    except ValueError as error:  # Python reads no number of more than 4,300 digits
        raise DataError(f"{where} has a number of too many digits.") from error


def _parquet_rows(path: Path) -> Pairs:
    import pyarrow
    import pyarrow.parquet

    try:
        with path.open("rb") as raw, pyarrow.parquet.ParquetFile(raw) as file:
            names = {}
            if b"huggingface" in (file.schema_arrow.metadata or {}):
                import datasets  # takes two seconds

                names = label_names(datasets.Features.from_arrow_schema(file.schema_arrow))
            batches = (batch.to_pylist() for batch in file.iter_batches(batch_size=1000))
            for number, values in enumerate(chain.from_iterable(batches), start=1):
                yield f"{path}, row {number}", with_names(values, names)
    except (pyarrow.ArrowException, ValueError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} is not a Parquet file that can be read: {reason}") from error


def _excel_rows(path: Path) -> Pairs:
    import pandas

    try:
        sheet = pandas.read_excel(path, dtype=object)
    except ImportError as error:
        raise DataError(
            f"{path} is an Excel file, which needs a package: pip install openpyxl, or save it as "
            "CSV UTF-8."
        ) from error
    except (ValueError, KeyError, zlib.error, EOFError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path} is not an Excel file that can be read: {reason}") from error
    for number, values in enumerate(sheet.to_dict("records"), start=2):
        yield f"{path}, line {number}", {str(name).strip(): one for name, one in values.items()}


def _saved_rows(path: Path) -> Pairs:
    import datasets

    if (path / "dataset_dict.json").exists():
        parts = sorted(part.name for part in path.iterdir() if part.is_dir())
        raise DataError(f"{path} holds the splits {', '.join(parts)}; name one, as {path}/SPLIT.")
    try:
        saved = datasets.load_from_disk(str(path))
        names = label_names(saved.features)
        for number, values in enumerate(saved, start=1):
            yield f"{path}, row {number}", with_names(values, names)
    except (ValueError, KeyError, TypeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path} cannot be read by datasets: {reason}") from error


def label_names(features: Any) -> dict[str, list[str]]:
    """Return the names of the values of class labels by column: 0 may be ``entailment``."""
    import datasets

    return {
        column: feature.names
        for column, feature in (features or {}).items()
        if isinstance(feature, datasets.ClassLabel)
    }


def with_names(values: dict[str, Any], names: dict[str, list[str]]) -> dict[str, Any]:
    """Return a row in which class labels are called by their names; -1 stands for none."""
    for column, of in names.items():
        place = values.get(column)
        if isinstance(place, int):
            values[column] = of[place] if 0 <= place < len(of) else None
    return values


def _place_of_bad_byte(path: Path) -> str:
    """Line and byte of the first byte that is not UTF-8; the error counts from its buffer."""
    with _opened(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return f"line {number}, byte {error.start + 1}"
    return "its end"
