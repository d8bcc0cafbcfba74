"""The form of a published table: tidy rows of identifying columns and figures."""

from dataclasses import dataclass

Value = str | int | float | None


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper, figure for figure as it is printed.

    Attributes:
        number: its number in the paper.
        title: its caption, without the note on how a cell is laid out.
        section: the section or appendix that discusses it.
        keys: the columns that together identify a row: ``dataset`` (a key of ``SOURCES``),
            ``model`` (a key of ``MODELS``), ``method`` and the like.
        values: the columns of figures.
        unit: what the figures are, and in which unit.
        rows: one a combination of keys, in the order of the print: the keys, then the figures.
            A figure that is printed as N/A is None.
    """

    number: int
    title: str
    section: str
    keys: tuple[str, ...]
    values: tuple[str, ...]
    unit: str
    rows: tuple[tuple[Value, ...], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of a row's places: the keys, then the figures."""
        return self.keys + self.values

    def records(self) -> list[dict[str, Value]]:
        """Returns the rows as one dictionary each, from column to value."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]
