"""The table of a comparison as a terminal shows it."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

WIDE = 120
"""Characters that the whole table takes at most."""
_COLUMNS = {
    "accuracy": "accuracy",
    "recall": "recall",
    "precision": "preci-\nsion",
    "auc": "AUC",
    "yes_rate": "yes\nrate",
    "ece": "ECE",
    "seconds": "seconds\nto fit",
    "trained": "trained",
    "needs": "needs",
    "kl": "KL",
    "free": "free\nright",
}
_IN_A_NARROW_ONE = ("accuracy", "recall", "auc", "yes_rate", "seconds", "kl", "free")


def print_comparison(console: Console, comparison: Mapping[str, Any]) -> None:
    """Prints a table for each data set of ``comparison.json``, and what is to be said below them.

    A narrow terminal gets the columns that it has room for; a file gets all.
    """
    to_a_file = not console.is_terminal
    whole = to_a_file or console.width >= WIDE
    columns = tuple(_COLUMNS) if whole else _IN_A_NARROW_ONE
    width = console.width
    if to_a_file:
        console.width = max(width, WIDE)
    for name in comparison["datasets"]:
        console.print(_table(comparison, name, columns))
    console.width = width
    for note in _notes(comparison):
        console.print(note, highlight=False, markup=False, soft_wrap=to_a_file)


def _table(comparison: Mapping[str, Any], name: str, columns: tuple[str, ...]) -> Table:
    """The rows on one data set; those that need logits have an asterisk."""
    about = comparison["datasets"][name]
    title = f"{name}, {about['n']} test examples, {about['positives']:.0%} of them Yes"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("row", no_wrap=True)
    for column in columns:
        if column == "needs":
            table.add_column(column, max_width=24, overflow="fold")
        else:
            table.add_column(_COLUMNS[column], justify="right", no_wrap=True)
    for row in comparison["rows"]:
        if not row["error"]:
            cells = _cells(row, name)
            label = f"{row['name']}*" if row["logits"] else row["name"]
            table.add_row(label, *(cells[column] for column in columns))
    return table


def _cells(row: Mapping[str, Any], name: str) -> dict[str, str]:
    """The cells of a row by their column; the interval of the accuracy stands below it."""
    figures, effects = row["datasets"][name]["figures"], row["side_effects"]
    value, low, high = figures["accuracy"]
    cells = {"accuracy": f"{value:.3f}\n{low:.2f} to {high:.2f}"}
    for metric in ("recall", "precision", "auc", "yes_rate", "ece"):
        cells[metric] = f"{figures[metric][0]:.3f}" if figures[metric] else "n/a"
    general = effects["general_qa"]
    return cells | {
        "seconds": f"{row['cost']['seconds_to_fit']:,.1f}",
        "trained": short_count(row["parameters"]),
        "needs": row["serving"],
        "kl": format(float(effects["kl"]["mean"]), ".2g"),  # an infinite one is a text in the file
        "free": f"{general['after']:.3f}" if general else "n/a",
    }


def _notes(comparison: Mapping[str, Any]) -> Iterator[str]:
    """The asterisk, and why rows could not be had."""
    if any(row["logits"] for row in comparison["rows"]):
        yield "* needs the probabilities of the answer words when it is served."
    for row in comparison["rows"]:
        if row["error"]:
            yield f"{row['name']}: {row['error']}"


def short_count(count: int) -> str:
    """Returns a count in at most seven characters or so."""
    if count < 1_000_000:
        return f"{count:,}"
    return f"{count / 1e6:,.1f}M"
