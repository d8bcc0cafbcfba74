"""Metrics, correlations, regression and shares, from rows of verdicts and probabilities."""

import math
from collections.abc import Sequence
from fractions import Fraction
from statistics import median
from typing import Any

import numpy as np
from scipy import stats
from sklearn.metrics import f1_score, precision_score, recall_score

Row = dict[str, Any]
Head = tuple[int, int]


def said(row: Row) -> float:
    """The probability of the word that was answered."""
    return float(row["p_yes"] if row["verdict"] == "positive" else row["p_no"])


def of_two_words(row: Row) -> float:
    """The same as a share of the probability of both words."""
    both = row["p_yes"] + row["p_no"]
    return said(row) / both if both else 0.0


def kind(row: Row) -> str:
    if row["verdict"] not in ("positive", "negative"):
        return "invalid"
    right = (row["verdict"] == "positive") == row["label"]
    return ("T" if right else "F") + ("P" if row["verdict"] == "positive" else "N")


def metrics(rows: Sequence[Row], bins: int = 10) -> dict[str, float]:
    """Accuracy is over all answers, an invalid one being wrong; the others over the valid ones."""
    valid = [row for row in rows if kind(row) != "invalid"]
    labels = [bool(row["label"]) for row in valid]
    verdicts = [row["verdict"] == "positive" for row in valid]
    figures = {
        name: float(score(labels, verdicts, zero_division=0)) if valid else 0.0
        for name, score in (
            ("precision", precision_score),
            ("recall", recall_score),
            ("f1", f1_score),
        )
    }
    hits = [one == other for one, other in zip(labels, verdicts, strict=True)]
    return figures | {
        "accuracy": sum(hits) / len(rows),
        "nas": math.fsum(row["nas"] for row in rows) / len(rows),
        "ece": calibration_error([said(row) for row in valid], hits, bins),
        "ece_two_words": calibration_error([of_two_words(row) for row in valid], hits, bins),
        "invalid_rate": 1 - len(valid) / len(rows),
        "n": len(rows),
    }


def calibration_error(confidences: Sequence[float], hits: Sequence[bool], bins: int) -> float:
    """The weighted mean gap of accuracy and confidence in bins [b/B, (b+1)/B), 1 in the last.

    So it is in the code of He et al. (2022), whom the paper cites for it.
    """
    error = 0.0
    for b in range(bins):
        members = [
            place
            for place, p in enumerate(confidences)
            if b / bins <= p < (b + 1) / bins or (b == bins - 1 and p >= 1)
        ]
        if members:
            accuracy = np.mean([hits[place] for place in members])
            confidence = np.mean([confidences[place] for place in members])
            error += len(members) / len(confidences) * abs(accuracy - confidence)
    return float(error)


def correlations(nas: Sequence[float], confidence: Sequence[float]) -> dict[str, float]:
    """Table 1: Pearson's by its formula, and Spearman's as Pearson's of the ranks."""

    def pearson(x: Any, y: Any) -> float:
        x, y = np.asarray(x) - np.mean(x), np.asarray(y) - np.mean(y)
        return float((x * y).sum() / math.sqrt((x * x).sum() * (y * y).sum()))

    ranks = stats.rankdata(nas), stats.rankdata(confidence)
    return {"pearson": pearson(nas, confidence), "spearman": pearson(*ranks)}


def regression(rows: Sequence[Row], comparisons: int) -> dict[str, float]:
    """Table 9: least squares of model NAS on both confidences, by the normal equations."""
    y = np.array([row["nas"] for row in rows], dtype=float)
    x = np.array([[1.0, row["p_no"], row["p_yes"]] for row in rows])
    inverse = np.linalg.inv(x.T @ x)
    coefficients = inverse @ x.T @ y
    rest, free = y - x @ coefficients, len(y) - 3
    error = math.sqrt(rest @ rest / free * inverse[1, 1])
    p = 2 * stats.t.sf(abs(coefficients[1]) / error, free)
    spread = y - y.mean()
    return {
        "coefficient": float(coefficients[1]),
        "p_value": min(1.0, float(p) * comparisons),
        "r_squared": float(1 - rest @ rest / (spread @ spread)),
    }


def select(nas: Any, k: int, n: int, consistency: float) -> list[Head]:
    """Eq. 2-4 of NAS [N][L][H], by sorting and counting."""
    heads = [(layer, head) for layer in range(len(nas[0])) for head in range(len(nas[0][0]))]

    def top(values: Any, among: list[Head], count: int) -> list[Head]:
        return sorted(among, key=lambda head: (-float(values[head[0]][head[1]]), head))[:count]

    lists = [set(top(sample, heads, k)) for sample in nas]
    needed = Fraction(str(consistency)) * len(nas)
    common = [head for head in heads if sum(head in one for one in lists) >= needed]
    return top(np.asarray(nas).mean(axis=0), common, n)


def overlap(lists: Sequence[Sequence[Head]]) -> float | None:
    """Table 2: what all lists share, as a part of the shortest."""
    shortest = min(len(one) for one in lists)
    return len(set.intersection(*(set(one) for one in lists))) / shortest if shortest else None


def with_knowledge(rows: Sequence[Row], free: Sequence[Row]) -> list[Row]:
    """Marks rows with what the model answered freely, by the question's id (Appendix G)."""
    middle = median(one["entropy"] for one in free)
    known = {one["id"] or one["question"]: one for one in free}
    marked = []
    for row in rows:
        one = known[row.get("id") or row["question"]]
        level = "High" if one["entropy"] <= middle else "Low"
        marked.append(row | {"cell": (one["knowledge"], level)})
    return marked


CELLS = [(one, level) for one in ("Det-T", "Det-F", "Non-Det") for level in ("High", "Low")]


def composition(rows: Sequence[Row]) -> dict[tuple[str, str], float | None]:
    """Table 16: which cells the false negatives are in."""
    cells = [row["cell"] for row in rows if kind(row) == "FN" and row["cell"] in CELLS]
    return {cell: cells.count(cell) / len(cells) if cells else None for cell in CELLS}


def shifts(
    before: Sequence[Row], after: Sequence[Row], which: str
) -> dict[tuple[str, str], float | None]:
    """Tables 17 and 18: the share of each cell's negatives that are positive afterwards."""
    ratios: dict[tuple[str, str], float | None] = {}
    for cell in CELLS:
        changed = [
            new["verdict"] == "positive"
            for old, new in zip(before, after, strict=True)
            if kind(old) == which and old["cell"] == cell
        ]
        ratios[cell] = sum(changed) / len(changed) if changed else None
    return ratios


def histogram(rows: Sequence[Row], which: str, bins: int = 10) -> list[int]:
    """Figures 2 and 5: answers of a kind by confidence, in bins (b/B, (b+1)/B]."""
    counts = [0] * bins
    for row in rows:
        if kind(row) == which:
            p = said(row)
            counts[max(b for b in range(bins) if b == 0 or p > b / bins)] += 1
    return counts
