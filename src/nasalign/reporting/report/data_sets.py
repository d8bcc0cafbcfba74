"""Each evaluated data set, before against after: figures, changes, the gap, shifts of answers."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nasalign.evaluation.metrics import (
    METRICS,
    Array,
    Figure,
    as_figure,
    bootstrap_weights,
    confidences,
    figures_of,
    paired_changes,
    sample_sums,
)
from nasalign.evaluation.ranking import auc
from nasalign.evaluation.responses import example_of, kind_of
from nasalign.reporting.report.run_folder import SIDES, Row, RunFiles, Side


@dataclass(frozen=True)
class DataSet:
    """An evaluated data set.

    Attributes:
        name: what the run calls it.
        n: number of examples.
        questions: number of different questions; the bootstrap draws these.
        figures: each metric with its interval, by side; ``gap`` is precision minus recall. NaN
            stands for what is undefined (``metrics.figures_of``).
        changes: each metric's change with its interval, paired by question; empty for one side.
        ranking: share of pairs of a right and a wrong answer of which the right one has the higher
            odds of the positive word (area under the curve), by side; None where there is no pair.
        positives: share of examples whose right verdict is positive, or None without rows.
        rows: rows of the evaluation, by side.
    """

    name: str
    n: int
    questions: int
    figures: dict[Side, dict[str, Figure]]
    changes: dict[str, Figure] = field(default_factory=dict)
    ranking: dict[Side, float | None] = field(default_factory=dict)
    positives: float | None = None
    rows: dict[Side, list[Row]] = field(default_factory=dict)

    @property
    def pairs(self) -> list[tuple[Row, Row]]:
        """The rows of an example before and after, or nothing for one side."""
        if len(self.rows) < 2:
            return []
        return list(zip(self.rows["before"], self.rows["after"], strict=True))

    @property
    def size(self) -> str:
        """The number of examples and questions, in words."""
        return f"{self.name}, n = {self.n:,} ({self.questions:,} questions)"

    def counts(self, kind: str) -> str:
        """Return how many answers are of an outcome, by side, in words."""
        found = {
            side: sum(outcome(row) == kind for row in rows) for side, rows in self.rows.items()
        }
        return "; ".join(f"{count:,} {side}" for side, count in found.items())

    @property
    def shifts(self) -> Counter[str]:
        """How many answers went from which outcome to which, as ``FN to TP``."""
        return Counter(shift(old, new) for old, new in self.pairs)


def data_sets(files: RunFiles) -> list[DataSet]:
    """Return the evaluated data sets of a run, the one that it is about first."""
    names = dict.fromkeys([*files.metrics, *sorted(files.rows)])
    order = sorted(names, key=lambda name: name != files.facts.get("data"))
    return [_data_set(name, files) for name in order]


def outcome(row: Row) -> str:
    """Return TP, FP, TN or FN; else the verdict itself, such as ``invalid``."""
    return kind_of(row) or str(row["verdict"])


def shift(before: Row, after: Row) -> str:
    """Return what became of an answer, as ``FN to TP``."""
    return f"{outcome(before)} to {outcome(after)}"


def is_right(kind: str) -> bool:
    """Return whether an outcome is a right answer."""
    return kind in ("TP", "TN")


def _data_set(name: str, files: RunFiles) -> DataSet:
    rows = files.rows.get(name, {})
    asked = [[example_of(row) for row in part] for part in rows.values()]
    if len(asked) == 2 and asked[0] != asked[1]:
        rows = {"after": rows["after"]}  # the other side is of another evaluation
    if not any(rows.values()):
        return _from_metrics(name, files.metrics[name])
    one = next(iter(rows.values()))
    questions = [str(row.get("cluster", row["question"])) for row in one]
    samples, seed = files.settings.get("bootstrap_samples", 2000), files.settings.get("seed", 0)
    # The same draws of questions on both sides, so that the change is paired.
    weights = bootstrap_weights(questions, samples, seed)
    sums = {side: _sums(part) for side, part in rows.items()}
    changes: dict[str, Figure] = {}
    if len(rows) == 2:
        changes = _recorded(paired_changes(sums["before"], sums["after"], weights))
    return DataSet(
        name=name,
        n=len(one),
        questions=len(set(questions)),
        figures={side: _recorded(figures_of(part, weights)) for side, part in sums.items()},
        changes=changes,
        ranking={side: _ranking(part) for side, part in rows.items()},
        positives=float(np.mean([row["label"] for row in one])),
        rows=rows,
    )


def _from_metrics(name: str, sides: Mapping[Side, Mapping[str, Any]]) -> DataSet:
    """A data set whose rows are not there any more: what ``metrics.json`` says of it."""
    figures: dict[Side, dict[str, Figure]] = {
        side: {
            m: as_figure(sides[side][m], sides[side]["intervals"][m])
            for m in METRICS
            if m in sides[side]
        }
        for side in SIDES
        if side in sides
    }
    n = next(iter(sides.values()))["n"]
    return DataSet(name, n, n, figures)


def _sums(rows: list[Row]) -> Array:
    return sample_sums(
        [row["verdict"] for row in rows],
        [row["label"] for row in rows],
        [confidences(row["verdict"], row["p_yes"], row["p_no"]) for row in rows],
        np.array([row["nas"] for row in rows], dtype=np.float64),
        np.array([row["p_yes"] + row["p_no"] + row.get("p_unsure", 0) for row in rows]),
    )


def _recorded(figures: dict[str, Figure]) -> dict[str, Figure]:
    """Leave NAS out where it is not recorded: the prompts may not name both words."""
    if not math.isnan(figures["nas"][0]):
        return figures
    return {name: figure for name, figure in figures.items() if name != "nas"}


def _ranking(rows: list[Row]) -> float | None:
    """The area under the curve of the odds of the positive word."""
    odds = np.array([row["p_yes"] / max(row["p_yes"] + row["p_no"], 1e-12) for row in rows])
    (area,) = auc(odds, [row["label"] for row in rows], np.ones((1, len(rows))))
    return None if np.isnan(area) else float(area)
