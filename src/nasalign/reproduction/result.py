"""A table or figure of the paper as we measure it, beside what the paper prints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import altair

from nasalign.reproduction.published import paper_tables

Row = dict[str, Any]
_SPREAD = {5: ("dataset",)} | dict.fromkeys((16, 17, 18), ("response", "confidence"))
"""Keys that the paper prints as columns, by table."""


@dataclass(frozen=True)
class Result:
    """One item of the paper.

    Attributes:
        name: such as ``"table-3"``.
        title: what it shows.
        keys: the columns that identify a row.
        values: the columns of figures.
        rows: one a combination of keys; ``source`` is ``"ours"`` or ``"paper"``. A figure ``v`` of
            ours may have ``v_low`` and ``v_high``, its 95 % interval.
        notes: on what it was measured, and how.
        charts: pictures by name.
        missing: the models that it could not be made of, and why.
        spread: keys whose values become columns of the table, as the paper prints it.
        failure: why it could not be made of any; all above but the name is empty then.
    """

    name: str
    title: str = ""
    keys: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    charts: Mapping[str, altair.TopLevelMixin] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    failure: str = ""
    spread: tuple[str, ...] = ()

    @property
    def columns(self) -> list[str]:
        """The columns of the CSV file, in order."""
        extra = [name for row in self.rows for name in row]
        return list(dict.fromkeys(["source", *self.keys, *self.values, *extra]))


def beside_paper(
    number: int, ours: Sequence[Row], notes: Sequence[str], more: Sequence[str] = ()
) -> Result:
    """Return our rows and those of a table of the paper, with its caption; ours have its keys.

    ``more`` are figures of ours that the paper does not print.
    """
    table = paper_tables()[number]
    rows: list[Row] = [{"source": "ours"} | row for row in ours]
    rows += [{"source": "paper"} | row for row in table.rows]
    return Result(
        f"table-{number}",
        table.title,
        table.keys,
        (*table.values, *more),
        rows,
        [*notes, f"Figures: {table.unit}"],
        spread=_SPREAD.get(number, ()),
    )
