"""Files of users for the fuzzer: names of columns, spellings of verdicts, dialects of CSV.

Each file ends in records or in one of our errors, and each of its rows is a record or is counted.
"""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasalign.data.file_format import OURS, FileFormat
from nasalign.data.records import BinaryExample, package_table
from nasalign.data.sources import Loaded, load_data

if TYPE_CHECKING:
    from fuzz import Maker

Rows = list[dict[str, Any]]
NEAR = [row["name"] for row in package_table("column_names.csv")]
WORDS = {row["word"]: row["sign"] for row in package_table("verdict_words.csv")}
for _empty in ("none", "null"):  # in a column of labels, nothing
    del WORDS[_empty]
QUESTIONS = (
    "Is ice cold?",
    "Who wrote Emma?",
    "Ice is cold.",
    "Ist Eis kalt?",
    "How many?",
    "冰冷吗",
)
ANSWERS = ("Jane Austen", "7", "2.5", "blue", "right", "None", "[1, 2]", "['a', 'b']", "disputed")
FORMS = ("{}", "{}.", " {} ", "'{}'", "{}, it is.", "{}!", "{} - they do", "{}-", "{}。")
LABELS = ("yes/no", "SUPPORTS/REFUTES/NEI", "a|b/c|d", "none", "1/0", "0/1", "/", "x", "a/a", "|/|")
SEPARATORS = (",", ";", "\t", "|", "~")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "cp1252", "latin-1")


def column_names(make: "Maker", folder: Path) -> None:
    """Columns of any names, known, near, misspelt and unknown, mapped in any way."""
    names = [_name(make) for _ in range(make.rng.randint(1, 6))]
    if make.rng.random() < 0.7:
        names += ["question", make.rng.choice(("answer", "label"))]
    rows: Rows = []
    for number in range(make.rng.randint(1, 5)):
        values = {name: f"{make.rng.choice(QUESTIONS)} {number}" for name in names}
        values |= {name: make.rng.choice((1, "yes", "blue")) for name in names[-1:]}
        for name in make.rng.sample(sorted(values), make.rng.choice((0, 0, 1))):
            values[name] = make.value()
        rows.append(values)
    mapped = [f"{make.rng.choice((*OURS, make.text(1)))}={make.rng.choice(('', *names))}"]
    how = FileFormat.of(
        mapped if make.rng.random() < 0.5 else (),
        group_by=make.rng.choice((None, None, None, names[0])),
    )
    loaded = load_data(str(_lines(folder, rows)), how=how)
    _whole(loaded, len(rows))
    file = loaded.file
    assert file is not None
    used = {*file.facts["columns"].values()}
    known = used | file.facts["unread"].keys()
    held = {name for row in rows for name, value in row.items() if isinstance(value, str | int)}
    lost = {name for name in held - known if any(str(row.get(name, "")).strip() for row in rows)}
    assert not lost or len(known) >= 100 or not _counts(rows, lost), f"not named: {lost}"


def _counts(rows: Rows, names: set[str]) -> bool:
    """Whether a column holds something that pandas would not call empty."""
    empty = {"", "nan", "NaN", "NAN", "<NA>", "NaT"}
    return any(str(row.get(name, "")).strip() not in empty for row in rows for name in names)


def _name(make: "Maker") -> str:
    name = make.rng.choice((*OURS, *NEAR))
    kind = make.rng.random()
    if kind < 0.3:
        return make.rng.choice((name.upper(), name.title(), f" {name}", f"{name} ", f"{name}:"))
    if kind < 0.5 and len(name) > 3:
        place = make.rng.randrange(len(name) - 1)
        return name[:place] + name[place + 1] + name[place] + name[place + 2 :]
    return make.text(2) if kind < 0.6 else name


def verdict_spellings(make: "Maker", folder: Path) -> None:
    """Verdicts in any spelling, among short answers, third values and cells that are empty."""
    column = make.rng.choice(("answer", "answer", "label"))
    words = make.rng.sample(sorted(WORDS), make.rng.randint(1, 4))
    share, rows = make.rng.choice((0.0, 0.1, 0.5, 0.9, 1.0)), []
    for number in range(make.rng.randint(1, 12)):
        cell: Any = make.rng.choice(words)
        if make.rng.random() < 0.5:
            cell = make.rng.choice(FORMS).format(make.rng.choice((cell, cell.upper())))
        if make.rng.random() > share:
            cell = make.rng.choice((*ANSWERS, make.value()))
        row = {"question": f"{make.rng.choice(QUESTIONS)} {number}", column: cell}
        rows.append(row | ({"answer": "blue"} if column == "label" else {}))
    labels = make.rng.choice((None, None, None, make.rng.choice(LABELS), make.text(2)))
    how = FileFormat.of(labels=labels, strict=make.rng.random() < 0.1)
    loaded = load_data(str(_lines(folder, rows)), how=how)
    _whole(loaded, len(rows))
    if how.labels is not None:
        return
    plain = {f"{row['question']}": row[column] for row in rows}
    for record in loaded.records:
        sign = WORDS.get(str(plain[record.question]).casefold())
        if isinstance(record, BinaryExample) and sign:
            assert record.label is (sign == "yes"), f"{plain[record.question]!r} is turned over"
        assert sign != "neither" or column == "answer", "a third value is read"


def csv_dialects(make: "Maker", folder: Path) -> None:
    """Tables with any separator, encoding, quoting and rest of a spreadsheet."""
    separator, encoding = make.rng.choice(SEPARATORS), make.rng.choice(ENCODINGS)
    columns = ["question", "answer", "context", ""][: make.rng.randint(2, 4)]
    text = io.StringIO()
    quoting = make.rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC))
    end = make.rng.choice(("\n", "\r\n"))
    writer = csv.writer(text, delimiter=separator, quoting=quoting, lineterminator=end)
    writer.writerow(make.rng.choice((columns, [name.title() for name in columns])))
    count = make.rng.randint(1, 5)
    for number in range(count):
        answer = make.rng.choice(
            ("blue", "Jane; Austen", "a,b", "a\tb", 'say "x"', "a|b", "two\nlines")
        )
        cells = [f"Who is {number}?", answer, make.rng.choice(("", "It is, so; they say.")), ""]
        writer.writerow(cells[: len(columns)])
    empty = make.rng.randint(0, 2)
    for _ in range(empty):
        writer.writerow([""] * len(columns))
    told = separator == "~" or make.rng.random() < 0.3
    content = (f"sep={separator}{end}" if told else "") + text.getvalue()
    data = content.encode(encoding, "replace")
    damaged = make.rng.random() < 0.3
    data = make.bytes(data) if damaged else data
    packed = make.rng.random() < 0.2
    path = folder / ("rows.csv.gz" if packed else "rows.csv")
    path.write_bytes(gzip.compress(data) if packed else data)
    loaded = load_data(str(path))
    if not damaged:
        _whole(loaded, count + empty)
        assert len(loaded.records) == count, "a row of a whole table was left out"


def _lines(folder: Path, rows: Rows) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def _whole(loaded: Loaded, rows: int) -> None:
    dropped = sum(loaded.dropped.counts.values())
    assert len(loaded.records) + dropped == rows, f"{rows} rows, {len(loaded.records)}, {dropped}"


FILES: dict[str, Callable[["Maker", Path], None]] = {
    "names of columns": column_names,
    "spellings of verdicts": verdict_spellings,
    "dialects of CSV": csv_dialects,
}
