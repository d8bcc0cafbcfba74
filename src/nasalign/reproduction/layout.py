"""A result as a table to read: the paper's rows, with ours above those of its models."""

import math
from dataclasses import dataclass
from typing import Any

from nasalign.reproduction.result import Result, Row

SIDE_BY_SIDE = "method"
"""A key whose values stand in one cell, with a stroke between them, as the paper prints them."""
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
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in result.rows:
        groups.setdefault((row["source"], *(row.get(key) for key in stays)), []).append(row)
    order = {"ours": 0, "paper": 1}
    first = {name: place for place, name in enumerate(dict.fromkeys(key[1] for key in groups))}
    keys = (
        sorted(groups, key=lambda key: (first[key[1]], order[key[0]])) if len(stays) > 1 else groups
    )
    rows = []
    header = [*stays, *(_columns(result, spread))]
    for key in keys:
        group = groups[key]
        labels = [Cell(str(part), "paper" if key[0] == "paper" else "") for part in key[1:]]
        cells = [Cell(label.text) for label in labels[:-1]] + [labels[-1]]
        value = result.values[0]
        if spread:
            cells += [_cell([row], value) for row in group]
        else:
            cells += [_cell(group, value) for value in result.values]
        rows.append(cells)
    return header, rows


def texts(result: Result) -> tuple[list[str], list[list[str]]]:
    """Returns the same as plain texts; what a cell says more is in brackets."""
    header, rows = lay_out(result)
    return header, [
        [f"{cell.text} ({cell.more})" if cell.more else cell.text for cell in row] for row in rows
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
        return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
    return str(value)
