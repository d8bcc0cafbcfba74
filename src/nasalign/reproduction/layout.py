"""A result as a table to read: the paper's rows, with ours above those of its models."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nasalign.progress import number as plain
from nasalign.reproduction.result import Result, Row

SIDE_BY_SIDE = "method"
"""A key whose values stand in one cell, with a stroke between them, as the paper prints them."""
PAPER = "paper"
"""The source of a row that the paper prints, and what its last label says more."""
SPREAD = ("response", "confidence")
"""Keys whose values become columns (Tables 16 to 18)."""


@dataclass(frozen=True)
class Cell:
    """A cell: what it says, and what it says more of ours, such as an interval."""

    text: str
    more: str = ""


def lay_out(result: Result) -> tuple[list[str], list[list[Cell]]]:
    """Returns the header and the rows of a result's table; both empty for a figure."""
    if not result.rows or result.charts:
        return [], []
    spread = all(key in result.keys for key in SPREAD)
    stays = [key for key in result.keys if key != SIDE_BY_SIDE and not (spread and key in SPREAD)]
    stays.sort(key=lambda key: key == "model")  # the last label, whatever the print's order
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in result.rows:
        groups.setdefault((row["source"], *(row.get(key) for key in stays)), []).append(row)
    rows = []
    for source, *names in _in_order(groups):
        group = groups[source, *names]
        labels = [Cell(str(name)) for name in names]
        if source == PAPER:
            labels[-1] = Cell(labels[-1].text, PAPER)
        if spread:
            cells = [_cell([row], result.values[0]) for row in group]
        else:
            cells = [_cell(group, value) for value in result.values]
        sizes = dict.fromkeys(number(row["n"]) for row in group if "n" in row)
        rows.append([*labels, *cells, Cell(" / ".join(sizes))])
    return [*stays, *_columns(result, spread), "n"], rows


def _in_order(keys: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Source and names of each row: those of a data set together, and ours above the paper's."""
    given = list(keys)
    sets = list(dict.fromkeys(key[1:-1] for key in given))
    return sorted(given, key=lambda key: (sets.index(key[1:-1]), key[0] == PAPER))


def texts(result: Result) -> tuple[list[str], list[list[str]]]:
    """Returns the same as plain texts; intervals are left out, which the other forms have."""
    header, rows = lay_out(result)
    return header, [
        [f"{cell.text} ({cell.more})" if cell.more == PAPER else cell.text for cell in row]
        for row in rows
    ]


def _columns(result: Result, spread: bool) -> list[str]:
    if not spread:
        return [name.replace("_", " ") for name in result.values]
    combinations = [" ".join(str(row[key]) for key in SPREAD) for row in result.rows]
    return list(dict.fromkeys(combinations))


def _cell(group: list[Row], value: str) -> Cell:
    """The figures of a group side by side, and their intervals."""
    intervals = [_interval(row, value) for row in group]
    return Cell(
        " / ".join(number(row.get(value)) for row in group),
        " / ".join(intervals) if any(intervals) else "",
    )


def _interval(row: Row, value: str) -> str:
    if row.get(f"{value}_low") is not None:
        return f"{number(row[f'{value}_low'])} to {number(row[f'{value}_high'])}"
    if f"{value}_sd" in row:
        return f"\N{PLUS-MINUS SIGN} {number(row[f'{value}_sd'])}"
    return ""


def number(value: Any) -> str:
    """Returns a figure as the tables print it."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "n/a"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if value and abs(value) < 1e-3:
            return f"{value:.1e}"
        return plain(value)
    return str(value)
