"""Ways to correct a model beside each other, from ``comparison.json``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nasalign.evaluation.metrics import Figure
from nasalign.reporting.comparison_table import short_count
from nasalign.reporting.report.data_sets import METRIC_NAMES
from nasalign.reporting.report.run_folder import Row, RunFiles
from nasalign.reporting.report.story import percent

_FIGURES = (
    *("accuracy", "precision", "recall", "f1", "auc"),
    *("ece", "yes_rate", "gap", "invalid_rate"),
)
_NAMES = METRIC_NAMES | {"auc": "AUC", "gap": "precision \N{MINUS SIGN} recall"}
_MIB = 2**20


@dataclass(frozen=True)
class Line:
    """A row of a table: a rival on a data set.

    Attributes:
        name: of the rival; with an asterisk if it needs the probabilities of the answer words.
        title: what it is and where it is from.
        figures: under the columns; None where there is none.
        change: of the accuracy from the untouched model's, paired by question; None for its own.
    """

    name: str
    title: str
    figures: list[Figure | None]
    change: Figure | None


@dataclass(frozen=True)
class SetTable:
    """The rows on one data set.

    Attributes:
        name: of the data.
        says: how many examples it has, and how many of them are to be affirmed.
        columns: names of the figures.
        lines: a rival each.
    """

    name: str
    says: str
    columns: list[str]
    lines: list[Line]


@dataclass(frozen=True)
class CostLine:
    """What a rival takes and does beside yes/no answers; each cell is a text and a sort key."""

    name: str
    cells: list[tuple[str, float]]
    serving: str
    chosen: str


@dataclass(frozen=True)
class Comparison:
    """What the section shows.

    Attributes:
        sets: a table a data set.
        costs: a line a rival.
        left_out: rivals that could not be had, each with its reason.
        logits: whether a name has an asterisk.
        free: on what free answers were judged, or an empty text.
    """

    sets: list[SetTable] = field(default_factory=list)
    costs: list[CostLine] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    logits: bool = False
    free: str = ""


COST_COLUMNS = (
    "seconds to fit",
    "seconds to evaluate",
    "trained numbers",
    "memory to fit, MiB",
    "right free answers",
    "KL",
    "perplexity",
)


def comparison(files: RunFiles) -> Comparison:
    """Returns what the section of a comparison shows; nothing if it is not finished."""
    if files.comparison is None:
        return Comparison()
    rows = files.comparison["rows"]
    general = had(files)[0]["side_effects"]["general_qa"]
    free = f"{general['n']:,} questions of {general['data']}" if general else ""
    return Comparison(
        sets=[_table(files, name) for name in files.comparison["datasets"]],
        costs=[_cost(row) for row in had(files)],
        left_out=[(row["name"], row["error"]) for row in rows if row["error"]],
        logits=any(row["logits"] for row in had(files)),
        free=free,
    )


def had(files: RunFiles) -> list[Row]:
    """Returns the rows that have figures, the untouched model's first."""
    assert files.comparison is not None
    return [row for row in files.comparison["rows"] if not row["error"]]


def about(files: RunFiles, name: str) -> Row:
    """Returns what is known of a data set: ``n``, ``questions`` and ``positives``."""
    assert files.comparison is not None
    return dict(files.comparison["datasets"][name])


def _table(files: RunFiles, name: str) -> SetTable:
    rows = had(files)
    yes, _ = files.words
    lines = []
    for row in rows:
        figures = row["datasets"][name]["figures"]
        cells = [_figure(figures.get(metric)) for metric in _FIGURES]
        change = _figure(figures.get("accuracy_change"))
        lines.append(Line(_marked(row), row["title"], cells, change))
    of = about(files, name)
    says = f"{of['n']:,} examples, {percent(of['positives'])} of them {yes}"
    return SetTable(name, says, [_NAMES[one].replace("Yes", yes) for one in _FIGURES], lines)


def _cost(row: Row) -> CostLine:
    cost, effects = row["cost"], row["side_effects"]
    memory = cost["memory_to_fit"] / _MIB
    cells = [
        *((f"{cost[name]:,.1f}", cost[name]) for name in ("seconds_to_fit", "seconds_to_evaluate")),
        (short_count(row["parameters"]), row["parameters"]),
        (f"{memory:,.0f}", memory),
    ]
    general = effects["general_qa"]
    cells.append((f"{general['after']:.3f}", general["after"]) if general else ("n/a", -1))
    cells.append(_measured(effects["kl"]["mean"], ".3g"))
    cells.append(_measured(effects["perplexity"]["after"], ".2f"))
    return CostLine(_marked(row), cells, row["serving"], _chosen(row["chosen"]))


def _measured(value: float | str, form: str) -> tuple[str, float]:
    """A figure that may be infinite, which the file has as a text."""
    return format(float(value), form), float(value)


def _chosen(chosen: Mapping[str, Any]) -> str:
    return "; ".join(f"{name.replace('_', ' ')} {_short(value)}" for name, value in chosen.items())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _figure(found: Sequence[float] | None) -> Figure | None:
    return (found[0], found[1], found[2]) if found else None


def _marked(row: Row) -> str:
    return f"{row['name']}*" if row["logits"] else str(row["name"])
