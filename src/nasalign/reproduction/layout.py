"""A result as a table to read: the paper's rows, with ours above those of its models."""

from typing import Any, NamedTuple

from nasalign.reporting.formats import number
from nasalign.reproduction.result import Result, Row

SIDE_BY_SIDE = "method"
"""A key whose values stand in one cell, with a stroke between them, as the paper prints them."""
PAPER = "paper"
"""The source of a row that the paper prints, and the ``more`` of its last label."""
SPREAD = ("response", "confidence")
"""Keys whose values become columns (Tables 16 to 18)."""


class TableCell(NamedTuple):
    """A cell: its text, and what stands below it in small print, such as an interval."""

    text: str
    more: str = ""


def lay_out(result: Result) -> tuple[list[str], list[list[TableCell]]]:
    """Return the header and the rows of a result's table; both empty for a figure."""
    if not result.rows or result.charts:
        return [], []
    spread = all(key in result.keys for key in SPREAD)
    stays = [key for key in result.keys if key != SIDE_BY_SIDE and not (spread and key in SPREAD)]
    stays.sort(key=lambda key: key == "model")  # the last label, whatever the print's order
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in result.rows:
        groups.setdefault((row["source"], *(row.get(key) for key in stays)), []).append(row)
    # The rows of a data set stand together, ours above the paper's.
    sets = list(dict.fromkeys(key[1:-1] for key in groups))
    rows = []
    for key in sorted(groups, key=lambda key: (sets.index(key[1:-1]), key[0] == PAPER)):
        (source, *names), group = key, groups[key]
        labels = [TableCell(str(name)) for name in names]
        if source == PAPER:
            labels[-1] = TableCell(labels[-1].text, PAPER)
        if spread:
            cells = [_cell([row], result.values[0]) for row in group]
        else:
            cells = [_cell(group, value) for value in result.values]
        sizes = dict.fromkeys(number(row["n"]) for row in group if "n" in row)
        rows.append([*labels, *cells, TableCell(" / ".join(sizes))])
    columns = [name.replace("_", " ") for name in result.values]
    if spread:
        combinations = (" ".join(str(row[key]) for key in SPREAD) for row in result.rows)
        columns = list(dict.fromkeys(combinations))
    return [*stays, *columns, "n"], rows


def texts(result: Result) -> tuple[list[str], list[list[str]]]:
    """Return the same as plain texts, without the intervals."""
    header, rows = lay_out(result)
    return header, [
        [f"{cell.text} ({cell.more})" if cell.more == PAPER else cell.text for cell in row]
        for row in rows
    ]


def _cell(group: list[Row], value: str) -> TableCell:
    """The figures of a group side by side, and their intervals."""
    intervals = [_interval(row, value) for row in group]
    return TableCell(
        " / ".join(_printed(row.get(value)) for row in group),
        " / ".join(intervals) if any(intervals) else "",
    )


def _interval(row: Row, value: str) -> str:
    if row.get(f"{value}_low") is not None:
        return f"{_printed(row[f'{value}_low'])} to {_printed(row[f'{value}_high'])}"
    if f"{value}_sd" in row:
        return f"\N{PLUS-MINUS SIGN} {_printed(row[f'{value}_sd'])}"
    return ""


def _printed(value: float | None) -> str:
    """A figure; a tiny one, such as a p-value, by its power of ten."""
    return f"{value:.1e}" if value and abs(value) < 1e-3 else number(value)
