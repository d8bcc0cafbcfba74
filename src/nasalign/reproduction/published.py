"""The paper's published figures, read from the CSV files of the folder ``published``.

``tables.csv`` describes the tables; ``table_NN.csv`` holds one of them figure for figure as it is
printed (N/A is an empty cell). Tables 12 to 15 hold text and are left out. Data sets have the names
of ``data/sources.py``: where the paper says "(Rephrased)" it means the set as yes/no questions,
except in GSM8K-Rephrased and MATH-Rephrased, which are the names of the original questions.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

Value = str | int | float | None


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper.

    Attributes:
        number: its number in the paper.
        title: its caption, without the note on how a cell is laid out.
        section: the section or appendix that discusses it.
        keys: the columns that together identify a row.
        values: the columns of figures.
        unit: what the figures are, and in which unit.
        rows: one a combination of keys, in the order of the print, by column.
    """

    number: int
    title: str
    section: str
    keys: tuple[str, ...]
    values: tuple[str, ...]
    unit: str
    rows: tuple[dict[str, Value], ...]


@cache
def paper_tables() -> dict[int, PaperTable]:
    """Return every table of figures by its number."""
    return {int(about["number"]): _table(about) for about in _read("tables.csv")}


def _table(about: dict[str, str]) -> PaperTable:
    number, keys = int(about["number"]), tuple(about["keys"].split())
    lines = _read(f"table_{number:02}.csv")
    rows = tuple(
        {name: cell if name in keys else _figure(cell) for name, cell in line.items()}
        for line in lines
    )
    values = tuple(name for name in lines[0] if name not in keys)
    return PaperTable(number, about["title"], about["section"], keys, values, about["unit"], rows)


def _figure(cell: str) -> int | float | None:
    if not cell:
        return None
    return int(cell) if cell.isdigit() else float(cell)


def _read(name: str) -> list[dict[str, str]]:
    text = (files("nasalign.reproduction") / "published" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
