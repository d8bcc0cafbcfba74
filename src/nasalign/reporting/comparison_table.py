"""The columns of a comparison, for ``comparison.csv``, the terminal and the report."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from nasalign.evaluation.metrics import METRICS
from nasalign.io.files import csv_text
from nasalign.reporting.formats import METRIC_NAMES, between, number, percent, rounded

FIGURES = (*METRICS, "auc", "gap", "accuracy_change")
WIDE = 120
"""Characters that the whole table takes at most."""
_MIB = 2**20


class Column(NamedTuple):
    """A column: its title in the report, its heading in a terminal, and how a value is printed."""

    title: str
    heading: str = ""
    form: str = ""


COLUMNS = {  # by the name in comparison.csv
    "accuracy": Column(METRIC_NAMES["accuracy"], "accuracy"),
    "accuracy_change": Column("its change"),
    "recall": Column(METRIC_NAMES["recall"], "recall"),
    "specificity": Column(METRIC_NAMES["specificity"], "speci-\nficity"),
    "precision": Column(METRIC_NAMES["precision"], "preci-\nsion"),
    "f1": Column(METRIC_NAMES["f1"]),
    "auc": Column(METRIC_NAMES["auc"], "AUC"),
    "ece": Column(METRIC_NAMES["ece"], "calib.\nerror"),
    "ece_two_words": Column(METRIC_NAMES["ece_two_words"]),
    "yes_rate": Column(METRIC_NAMES["yes_rate"], "share\nof Yes"),
    "gap": Column(METRIC_NAMES["gap"]),
    "invalid_rate": Column(METRIC_NAMES["invalid_rate"]),
    "coverage": Column(METRIC_NAMES["coverage"]),
    "seconds_to_fit": Column("seconds to fit", "seconds\nto fit", "1"),
    "seconds_to_evaluate": Column("seconds to evaluate", form="1"),
    "threads": Column("threads", form="count"),
    "trained_parameters": Column("trained numbers", "trained", "count"),
    "memory_to_fit_mib": Column("memory to fit, MiB", form="0"),
    "general_qa": Column("right free answers", "free\nright"),
    "kl": Column("KL", "KL", ".3g"),
    "perplexity": Column("perplexity", form="2"),
    "needs_to_serve": Column("needs when served", "needs", "text"),
}
_IN_A_WIDE_TERMINAL = (
    *("accuracy", "recall", "specificity", "precision", "auc", "yes_rate", "ece"),
    *("seconds_to_fit", "trained_parameters", "needs_to_serve", "general_qa"),
)
_IN_A_NARROW_ONE = (
    *("accuracy", "recall", "specificity", "auc", "yes_rate"),
    *("seconds_to_fit", "general_qa"),
)


def comparison_line(row: Mapping[str, Any], name: str, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of ``comparison.json`` on one data set as a line of ``comparison.csv``.

    A figure has the ends of its interval under its name and ``_low`` and ``_high``. A row that
    could not be measured has its reason under ``error``, and nothing under the figures.
    ``about`` has ``n``, ``questions`` and ``positives`` of the data set.
    """
    figures = {} if row["error"] else row["datasets"][name]["figures"]
    cost, effects = row.get("cost", {}), row.get("side_effects") or {}
    memory, chosen = cost.get("memory_to_fit"), row.get("chosen")
    general, kl, perplexity = (effects.get(one) or {} for one in ("general_qa", "kl", "perplexity"))
    change = (
        [general["after"] - general["before"], *general["change_interval"]] if general else None
    )
    return {
        "data": name,
        "row": row["name"],
        "title": row["title"],
        "n": about["n"],
        "questions": about["questions"],
        "share_of_yes": about["positives"],
        **_spread({figure: figures.get(figure) for figure in FIGURES}),
        "seconds_to_fit": cost.get("seconds_to_fit"),
        "seconds_to_evaluate": cost.get("seconds_to_evaluate"),
        "threads": cost.get("threads"),
        "memory_to_fit_mib": None if memory is None else round(memory / _MIB, 1),
        "trained_parameters": row.get("parameters"),
        "needs_to_serve": row["serving"],
        "needs_logits": row["logits"],
        "general_qa": general.get("after"),
        **_spread({"general_qa_change": change}),
        **_spread({"kl": [kl["mean"], *kl["interval"]] if kl else None}),
        "perplexity": perplexity.get("after"),
        "chosen": json.dumps(chosen, ensure_ascii=False, default=str) if chosen else None,
        "error": row["error"],
    }


def _spread(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Each figure with the ends of its interval in three columns."""
    return {
        f"{name}{end}": value
        for name, figure in figures.items()
        for end, value in zip(("", "_low", "_high"), figure or (None,) * 3, strict=True)
    }


def as_csv(comparison: Mapping[str, Any]) -> str:
    """Return the text of ``comparison.csv``: a line for each data set and row.

    A text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    lines = [
        comparison_line(row, name, about)
        for name, about in comparison["datasets"].items()
        for row in comparison["rows"]
    ]
    return csv_text(list(lines[0]), lines)


def printed(line: Mapping[str, Any], name: str) -> str:
    """Return the value of a column as text; "-" where there is none."""
    value, form = line[name], COLUMNS[name].form
    if value is None:
        return "-"
    if form == "text":
        return str(value)
    if form == "count":
        return f"{value:,}" if value < 1_000_000 else f"{value / 1e6:,.1f}M"
    if form == ".3g":
        return format(float(value), form)  # an infinite one is a text in the file
    return rounded(float(value), int(form)) if form else number(float(value))


def label(line: Mapping[str, Any]) -> str:
    """Return the name of a row, with an asterisk if it needs the answer words' probabilities."""
    return f"{line['row']}*" if line["needs_logits"] else str(line["row"])


def print_comparison(console: Console, comparison: Mapping[str, Any]) -> None:
    """Print a table for each data set of ``comparison.json``, and notes below them.

    A narrow terminal gets the columns that it has room for; a file gets all.
    """
    to_a_file, width = not console.is_terminal, console.width
    whole = to_a_file or width >= WIDE
    if to_a_file:
        console.width = max(width, WIDE)
    for name in comparison["datasets"]:
        columns = _IN_A_WIDE_TERMINAL if whole else _IN_A_NARROW_ONE
        console.print(_table(comparison, name, columns))
    console.width = width
    for note in _notes(comparison):
        console.print(note, highlight=False, markup=False, soft_wrap=to_a_file)


def _table(comparison: Mapping[str, Any], name: str, columns: tuple[str, ...]) -> Table:
    """The rows on one data set; the interval of the accuracy stands below it."""
    about = comparison["datasets"][name]
    title = f"{name}, {about['n']} test examples, {percent(about['positives'])} of them Yes"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("row", no_wrap=True)
    for column in columns:
        heading = COLUMNS[column].heading
        if column == "needs_to_serve":
            table.add_column(heading, max_width=24, overflow="fold")
        else:
            table.add_column(heading, justify="right", no_wrap=True)
    for row in comparison["rows"]:
        if not row["error"]:
            line = comparison_line(row, name, about)
            cells = {column: printed(line, column) for column in columns}
            ends = between([line["accuracy_low"], line["accuracy_high"]])
            cells["accuracy"] += f"\n{ends}"
            table.add_row(label(line), *cells.values())
    return table


def _notes(comparison: Mapping[str, Any]) -> Iterator[str]:
    """The meaning of the asterisk, and why rows could not be measured."""
    if any(row["logits"] for row in comparison["rows"]):
        yield "* needs the probabilities of the answer words when it is served."
    if any(_never_yes(row) for row in comparison["rows"]):
        yield "- in place of a precision: it never said Yes."
    for row in comparison["rows"]:
        if row["error"]:
            yield f"{row['name']}: {row['error']}"


def _never_yes(row: Mapping[str, Any]) -> bool:
    """Whether a row has no precision on a data set."""
    sets = () if row["error"] else row["datasets"].values()
    return any(part["figures"]["precision"][0] is None for part in sets)
