"""Figures by what the model knows of a question, and by how it was asked (Appendix G)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nasalign.reporting.report.run_folder import RunFiles

ANSWERS = {
    "Det-T": "answers it rightly",
    "Det-F": "answers it wrongly",
    "Non-Det": "gives no answer",
    "unclear": "the judge was undecided",
}
_COLUMNS = {
    "yes_rate": "share of Yes",
    "no_rate": "share of No",
    "unsure_rate": "I don't know",
    "accuracy": "accuracy",
    "recall": "recall",
    "negative_bias": "negative bias",
}


@dataclass(frozen=True)
class SubsetTable:
    """A table of figures by subset.

    Attributes:
        title: whose figures they are.
        columns: the names of the figures.
        rows: of each its label, whether it is a part of the row above, its number of examples,
            and its figures, each as (value, low, high) or None where it has none.
    """

    title: str
    columns: list[str]
    rows: list[tuple[str, bool, int, list[tuple[float, float, float] | None]]]


def subset_tables(files: RunFiles) -> list[SubsetTable]:
    """Returns the tables of a run that asked what the model knows, or in several scenarios."""
    tables = []
    for name, sides in files.metrics.items():
        for side, metrics in sides.items():
            parts = metrics.get("knowledge", {})
            if parts:
                tables.append(_table(f"{name}, {side}", {"": {"all": metrics} | parts}))
    if files.scenarios:
        found = {
            scenario: {"all": parts["all"]} | parts["by_knowledge"]
            for scenario, parts in files.scenarios["scenarios"].items()
        }
        tables.append(_table("How it was asked", found))
    return tables


def _table(title: str, groups: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> SubsetTable:
    """A row for each group and subset."""
    every = [metrics for parts in groups.values() for metrics in parts.values()]
    names = [name for name in _COLUMNS if any(name in metrics["intervals"] for metrics in every)]
    rows = []
    for group, parts in groups.items():
        for kind, metrics in parts.items():
            whole = kind == "all"
            label = (group or "all questions") if whole else f"{ANSWERS[kind]} ({kind})"
            intervals = metrics["intervals"]
            cells = [
                (metrics[name], *intervals[name]) if name in intervals else None for name in names
            ]
            rows.append((label, not whole, metrics["n"], cells))
    return SubsetTable(title, [_COLUMNS[name] for name in names], rows)
