"""Single answers: negative ones by what the model knows, and how confident all are.

Tables 16 to 18 (Appendices G and H) and Figures 2 and 5, from rows of ``eval/*.jsonl``. The first
three take rows that ``nasalign evaluate --knowledge`` has marked with ``knowledge`` (Det-T, Det-F,
Non-Det or unclear) and ``confident`` (whether the entropy of the free answer is at most the
median), both of the untouched model.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

from nasalign.evaluation.metrics import confidences
from nasalign.nasa.direction import wilson

Row = Mapping[str, Any]
Kind = Literal["TP", "FP", "TN", "FN"]
KINDS: tuple[Kind, ...] = ("TP", "FP", "TN", "FN")
CELLS = tuple(product(("Det-T", "Det-F", "Non-Det"), ("High", "Low")))
"""Free answer and its confidence: the columns of Tables 16 to 18."""


def kind_of(row: Row) -> Kind | None:
    """Return TP, FP, TN or FN by verdict and label; None if the verdict is neither word."""
    if row["verdict"] == "positive":
        return "TP" if row["label"] else "FP"
    if row["verdict"] == "negative":
        return "FN" if row["label"] else "TN"
    return None


@dataclass(frozen=True)
class Cell:
    """One cell of Tables 16 to 18.

    Attributes:
        response: the free answer: Det-T, Det-F or Non-Det.
        confidence: High or Low.
        count: answers that are counted.
        total: answers they are a share of.
        share: ``count`` by ``total``; None where there is nothing to share.
        interval: 95 %, by Wilson.
    """

    response: str
    confidence: str
    count: int
    total: int
    share: float | None
    interval: tuple[float, float] | None

    @classmethod
    def of(cls, name: tuple[str, str], count: int, total: int) -> "Cell":
        """Return a cell with its share and interval."""
        if total == 0:
            return cls(*name, count, total, None, None)
        return cls(*name, count, total, count / total, wilson(count, total))


@dataclass(frozen=True)
class Cells:
    """The six cells of a data set and a model.

    Attributes:
        cells: in the order of ``CELLS``.
        unclear: answers in none of them, since the judge did not decide on the free answer.
    """

    cells: list[Cell]
    unclear: int


def composition(rows: Sequence[Row]) -> Cells:
    """Return the share of each cell among the false negatives (Table 16).

    Raises:
        ValueError: a row does not say what the model knows.
    """
    names = [_cell(row) for row in rows if kind_of(row) == "FN"]
    total = sum(name is not None for name in names)
    cells = [Cell.of(name, names.count(name), total) for name in CELLS]
    return Cells(cells, len(names) - total)


def shift_ratios(before: Sequence[Row], after: Sequence[Row], kind: Literal["FN", "TN"]) -> Cells:
    """Return which share of each cell's negative answers became positive (Tables 17 and 18).

    Args:
        before: marked rows of the untouched model.
        after: rows of the aligned model for the same examples, in the same order.
        kind: ``"FN"`` for those that became TP, ``"TN"`` for those that became FP.

    Raises:
        ValueError: the examples differ, or a row is not marked.
    """
    if [example_of(row) for row in before] != [example_of(row) for row in after]:
        raise ValueError("the rows before and after are not of the same examples")
    shifted: dict[tuple[str, str] | None, list[bool]] = {name: [] for name in (*CELLS, None)}
    for old, new in zip(before, after, strict=True):
        if kind_of(old) == kind:
            shifted[_cell(old)].append(new["verdict"] == "positive")
    cells = [Cell.of(name, sum(shifted[name]), len(shifted[name])) for name in CELLS]
    return Cells(cells, len(shifted[None]))


@dataclass(frozen=True)
class Histogram:
    """The confidence of answers (Figures 2 and 5).

    Attributes:
        edges: ends of the bins, from 0 to 1; a bin is open below and closed above, the first one
            holds 0 too.
        counts: answers in each bin, by TP, FP, TN and FN.
        invalid: answers with neither word, which are in no bin.
    """

    edges: list[float]
    counts: dict[Kind, list[int]]
    invalid: int


def confidence_histogram(rows: Sequence[Row], bins: int = 10) -> Histogram:
    """Count answers by the probability of the word that was given (Figures 2 and 5)."""
    edges = [place / bins for place in range(bins + 1)]
    counts: dict[Kind, list[int]] = {kind: [0] * bins for kind in KINDS}
    invalid = 0
    for row in rows:
        kind = kind_of(row)
        if kind is None:
            invalid += 1
            continue
        said, _ = confidences(row["verdict"], row["p_yes"], row["p_no"])
        place = bisect_left(edges, said) - 1
        counts[kind][min(max(place, 0), bins - 1)] += 1  # a sum may round to more than 1
    return Histogram(edges, counts, invalid)


def example_of(row: Row) -> tuple[Any, ...]:
    """Return what tells an example from others: question, shown answer and label."""
    return row["question"], row.get("answer"), row["label"]


def _cell(row: Row) -> tuple[str, str] | None:
    """The cell of a marked row, or None where the judge was undecided."""
    if "knowledge" not in row:
        raise ValueError(f"the row of {row['question']!r} does not say what the model knows")
    name = (str(row["knowledge"]), "High" if row["confident"] else "Low")
    return name if name in CELLS else None
