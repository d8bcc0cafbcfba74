"""A result as a table to read: the paper's rows, with ours above those of its models."""

from collections.abc import Sequence
from typing import NamedTuple

from nasalign.reporting.formats import number
from nasalign.reproduction.result import Result, Row

SIDE_BY_SIDE = "method"
"""A key whose values stand in one cell, with a stroke between them, as the paper prints them."""
PAPER = "paper"
"""The source of a row that the paper prints, and the ``more`` of its label."""


class TableCell(NamedTuple):
    """A cell: its text, and what stands below it in small print, such as an interval."""

    text: str
    more: str = ""


def lay_out(result: Result) -> tuple[list[str], list[list[TableCell]]]:
    """Return the header and the rows of a result's table; both empty for a figure."""
    if not result.rows or result.charts:
        return [], []
    spread = result.spread
    labels = [key for key in result.keys if key != SIDE_BY_SIDE and key not in spread]
    model_at = labels.index("model") if "model" in labels else len(labels) - 1
    columns = list(dict.fromkeys(_column(row, spread) for row in result.rows))
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in result.rows:
        groups.setdefault((row["source"], *(str(row[key]) for key in labels)), []).append(row)
    rows = []
    for key in _as_printed(list(groups), model_at):
        names = [TableCell(name) for name in key[1:]]
        if key[0] == PAPER:
            names[model_at] = TableCell(names[model_at].text, PAPER)
        parts = [[row for row in groups[key] if _column(row, spread) == one] for one in columns]
        cells = [_cell(part, value) for part in parts for value in result.values]
        rows.append([*names, *cells, _size(parts)])
    header = [" ".join(one) for one in columns] if spread else list(result.values)
    return [*labels, *(name.replace("_", " ") for name in header), "n"], rows


def _as_printed(keys: list[tuple[str, ...]], model_at: int) -> list[tuple[str, ...]]:
    """The keys of rows (source, labels) in the print's order.

    Rows with the same labels before the model stand together, our models above the paper's; the
    rows of a model stand together too.
    """
    before = list(dict.fromkeys(key[1 : model_at + 1] for key in keys))
    models = list(dict.fromkeys(key[model_at + 1] for key in keys))
    return sorted(
        keys,
        key=lambda key: (
            before.index(key[1 : model_at + 1]),
            key[0] == PAPER,
            models.index(key[model_at + 1]),
        ),
    )


def _column(row: Row, keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(row[key]) for key in keys)


def _size(columns: list[list[Row]]) -> TableCell:
    """The number of samples; that of each column where they differ."""
    sizes = [
        " / ".join(dict.fromkeys(number(row["n"]) for row in column if "n" in row))
        for column in columns
    ]
    return TableCell(sizes[0] if len(set(sizes)) == 1 else " | ".join(sizes))


def texts(result: Result) -> tuple[list[str], list[list[str]]]:
    """Return the same as plain texts, without the intervals."""
    header, rows = lay_out(result)
    return header, [
        [f"{cell.text} ({cell.more})" if cell.more == PAPER else cell.text for cell in row]
        for row in rows
    ]


def _cell(group: list[Row], value: str) -> TableCell:
    """The figures of a group side by side, and their intervals; empty where none can be.

    Where ``accuracy`` is of free answers, the share of those that were cut stands there too.
    """
    if not any(value in row for row in group):
        return TableCell("")
    intervals = [_interval(row, value) for row in group]
    more = " / ".join(intervals) if any(intervals) else ""
    if value == "accuracy" and all("cut" in row for row in group):
        more += "; cut " + " / ".join(f"{row['cut']:.0%}" for row in group)
    return TableCell(" / ".join(_printed(row.get(value)) for row in group), more)


def _interval(row: Row, value: str) -> str:
    if row.get(f"{value}_low") is not None:
        return f"{_printed(row[f'{value}_low'])} to {_printed(row[f'{value}_high'])}"
    if f"{value}_sd" in row:
        return f"\N{PLUS-MINUS SIGN} {_printed(row[f'{value}_sd'])}"
    return ""


def _printed(value: float | None) -> str:
    """A figure; a tiny one, such as a p-value, by its power of ten."""
    return f"{value:.1e}" if value and abs(value) < 1e-3 else number(value)
