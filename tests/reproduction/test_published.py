"""The CSV files of the paper's tables, against its text and against themselves.

The text is looked for in ``NASALIGN_PAPER`` (a file or a folder), or else in ``shared/paper``
beside the checkout; what needs it is skipped without it. It is read here by its own headers and
labels, and shares nothing with the transcription but the names of the columns.
"""

import hashlib
import os
import re
from functools import cache
from pathlib import Path

import pytest

from nasalign.data.sources import SOURCES
from nasalign.reproduction import published
from nasalign.reproduction.published import PaperTable, Value, paper_tables

PAPER = Path(os.environ.get("NASALIGN_PAPER", Path(__file__).parents[3] / "shared" / "paper"))
text_needed = pytest.mark.skipif(not PAPER.exists(), reason=f"needs the paper's text in {PAPER}")

Cells = dict[frozenset[tuple[str, Value]], Value]
"""A figure by its identifying columns, and by "value": the name of its own column."""

TABLES = paper_tables()
CHECKED = "1caa64391c13096a208ff8c2333cd27b7ae85ee7996af916d6287460cba22b0b"
"""SHA-256 of all CSV files, as they were compared with the text."""
MODELS = {
    "LLaMA": "LLaMA3-8B-Instruct",
    "Mistral": "Mistral-7B-Instruct-v0.3",
    "Gemma": "Gemma-1.1-7b-it",
    "Qwen": "Qwen2-7B-Instruct",
}
DATASETS = {
    "StrategyQA": "strategyqa",
    "MuSiQue": "musique",
    "GSM8K": "gsm8k-rephrased",
    "MATH": "math-rephrased",
    "AR-LSAT": "ar-lsat",
}
COLUMNS = {
    "# of Positives": "positives",
    "# of Negatives": "negatives",
    "# of total": "total",
    "Corrected p -value": "p_value",
    "r^2": "r_squared",
    "Data": "dataset",
    "Type": "vocabulary",
    "It. Type": "instruction",
}
LABELS = {2: 0, 1: 1, 5: 1, 6: 1, 8: 1, 9: 1}  # columns of labels; 2 in the other tables
VALUE = {2: "overlap", 5: "accuracy", 6: "ece", 16: "share", 17: "shift_ratio", 18: "shift_ratio"}
METHODS = dict.fromkeys((3, 4, 5, 6, 7, 10, 11), ("baseline", "NASA"))
METHODS[19] = ("NASA", "query projection only")
METHODS[20] = ("NASA", "random attention heads")
FIGURE = re.compile(r"-?\d+(?:\.\d+)?(?:E[+-]?\d+)?|N/A")


@cache
def text() -> str:
    files = sorted(PAPER.glob("*.txt")) if PAPER.is_dir() else [PAPER]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def printed(number: int) -> tuple[str, list[list[str]]]:
    """A table's caption and its lines, each a list of cells."""
    found = re.search(rf"^Table {number}: (.*)\n\n((?:.+\n)+)", text(), re.MULTILINE)
    assert found, number
    return found[1], [line.split("\t") for line in found[2].splitlines()]


def figures(cell: str) -> list[float | None]:
    """The figures of a cell; there is nothing else in it."""
    cell = cell.replace("$", "").replace(" ", "")
    assert not FIGURE.sub("", cell).strip("/"), cell
    return [None if figure == "N/A" else float(figure) for figure in FIGURE.findall(cell)]


def label(number: int, column: str, said: str) -> dict[str, str]:
    """What a label says."""
    column = COLUMNS.get(column, column.lower())
    if column == "dataset":
        return {"dataset": DATASETS[said.removesuffix(" (Rephrased)")]}
    if column == "model":
        return {"value": said.lower()} if number == 1 else {"model": said.removesuffix(" / + NASA")}
    return {column: said.lower() if column == "vocabulary" else said}


def heads(number: int, columns: list[str], below: list[str]) -> list[dict[str, str]]:
    """What the header of each column of figures says, and for Tables 16 to 18 the one below it."""
    if number in {1, 2}:
        return [{"model": column} for column in columns]
    if number == 5:
        return [{"dataset": DATASETS[column]} for column in columns]
    if number in {6, 10, 11}:
        assert columns[1:] == ["+ NASA"]
        return [{"model": columns[0], "method": method} for method in METHODS[number]]
    if number in {16, 17, 18}:
        above = [columns[place - place % 2] for place in range(len(below))]
        return [
            {"response": response, "confidence": confidence}
            for response, confidence in zip(above, below, strict=True)
        ]
    return [{"value": COLUMNS.get(column, column.lower())} for column in columns]


def parts(number: int) -> list[dict[str, str]]:
    """What each of the figures of one cell is."""
    if number in {10, 11}:
        return [{"value": "accuracy"}, {"value": "f1"}]
    if number in {3, 4, 5, 7, 19, 20}:
        return [{"method": method} for method in METHODS[number]]
    return [{}]


def from_text(number: int) -> Cells:
    _, (header, *lines) = printed(number)
    labels = LABELS.get(number, 2)
    below = lines.pop(0)[labels:] if number in {16, 17, 18} else []
    value = {"value": VALUE[number]} if number in VALUE else {}
    said = [""] * labels
    cells: Cells = {}
    for line in lines:
        said = [new or above for new, above in zip(line[:labels], said, strict=True)]
        row = dict(value)
        for column, word in zip(header[:labels], said, strict=True):
            row |= label(number, column, word)
        columns = heads(number, header[labels:], below)
        for head, cell in zip(columns, line[labels:], strict=True):
            for part, figure in zip(parts(number), figures(cell), strict=True):
                key = frozenset((row | head | part).items())
                assert key not in cells, key
                cells[key] = figure
    return cells


def transcribed(table: PaperTable) -> Cells:
    return {
        frozenset([*((key, record[key]) for key in table.keys), ("value", column)]): record[column]
        for record in table.rows
        for column in table.values
    }


@text_needed
@pytest.mark.parametrize("number", TABLES)
def test_every_figure_is_the_printed_one(number: int) -> None:
    ours, theirs = transcribed(TABLES[number]), from_text(number)

    assert len(ours) == len(TABLES[number].rows) * len(TABLES[number].values)
    assert ours == theirs


@text_needed
@pytest.mark.parametrize("number", [19, 20])
def test_methods_are_in_the_caption(number: int) -> None:
    assert f"({' / '.join(METHODS[number])})" in printed(number)[0]


@text_needed
@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.number)
def test_titles_and_sections(table: PaperTable) -> None:
    caption = printed(table.number)[0].replace("−", "-").replace("\\rightarrow", "→")  # noqa: RUF001
    heading = r"^(\d(?:\.\d)*|[A-P](?:\.\d)?) [A-Z].*$"
    starts = list(re.finditer(heading, text(), re.MULTILINE))
    (place,) = (i for i, start in enumerate(starts) if start[1] == table.section)
    body = text()[starts[place].end() : starts[place + 1].start()]

    assert re.sub(r" \([^)]*/[^)]*\)", "", caption).split(". ")[0].rstrip(".") == table.title
    assert re.search(rf"Tables? (?:\d+ and )?{table.number}\b", body)


@text_needed
def test_every_table_and_model_is_the_papers() -> None:
    captions = {int(number) for number in re.findall(r"^Table (\d+): ", text(), re.MULTILINE)}
    assert captions - {12, 13, 14, 15} == set(TABLES)
    for short, name in MODELS.items():
        assert f"{name} ({short})" in text()


def test_files_are_those_that_were_compared_with_the_text() -> None:
    """Without the text this holds the figures; after an edit, run the tests above with the text."""
    folder = Path(published.__file__).with_suffix("")
    content = b"".join(path.read_bytes() for path in sorted(folder.glob("*.csv")))
    assert hashlib.sha256(content).hexdigest() == CHECKED


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.number)
def test_rows_are_identified_by_their_keys(table: PaperTable) -> None:
    records = table.rows
    keys = [tuple(record[key] for key in table.keys) for record in records]
    assert len(set(keys)) == len(keys)
    assert all(None not in key for key in keys)
    assert all(
        record[column] is None or isinstance(record[column], int | float)
        for record in records
        for column in table.values
    )
    assert table.unit
    assert {record.get("dataset", "musique") for record in records} <= set(SOURCES)
    assert {record.get("model", "LLaMA") for record in records} <= set(MODELS)
    for key in {"method", "response", "confidence", "vocabulary", "instruction"} & {*table.keys}:
        assert len({record[key] for record in records}) == (3 if key == "response" else 2)


def test_counts_add_up_and_are_those_of_the_sources() -> None:
    for row in TABLES[8].rows:
        positives, negatives, total = (int(row[name] or 0) for name in TABLES[8].values)
        assert positives + negatives == total
        assert SOURCES[str(row["dataset"])].paper == (positives, negatives)
