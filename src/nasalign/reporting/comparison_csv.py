"""The table of a comparison as a CSV file: a line a row and data set."""

import json
from collections.abc import Mapping
from typing import Any

from nasalign.evaluation.metrics import METRICS
from nasalign.io.files import csv_text

FIGURES = (*METRICS, "auc", "gap", "accuracy_change")
_MIB = 2**20


def as_csv(comparison: Mapping[str, Any]) -> str:
    """Returns the text of ``comparison.csv``.

    A text that a spreadsheet would take for a formula begins with an apostrophe. A row that could
    not be had has its reason under ``error``, and nothing under the figures.

    Args:
        comparison: the content of ``comparison.json``.
    """
    lines = [
        _line(row, name, about)
        for name, about in comparison["datasets"].items()
        for row in comparison["rows"]
    ]
    columns = list(dict.fromkeys(column for line in lines for column in line))
    return csv_text(columns, lines)


def _line(row: Mapping[str, Any], name: str, about: Mapping[str, Any]) -> dict[str, Any]:
    line = {
        "data": name,
        "row": row["name"],
        "title": row["title"],
        "n": about["n"],
        "questions": about["questions"],
        "share_of_yes": about["positives"],
    }
    found = {} if row["error"] else row["datasets"][name]["figures"]
    for figure in FIGURES:
        line |= _spread(figure, found.get(figure))
    cost = row.get("cost", {})
    memory = cost.get("memory_to_fit")
    line |= {name: cost.get(name) for name in ("seconds_to_fit", "seconds_to_evaluate")}
    line |= {
        "memory_to_fit_mib": None if memory is None else round(memory / _MIB, 1),
        "trained_parameters": row.get("parameters"),
        "needs_to_serve": row["serving"],
        "needs_logits": row["logits"],
    }
    line |= _effects(row.get("side_effects") or {})
    chosen = row.get("chosen")
    line["chosen"] = json.dumps(chosen, ensure_ascii=False, default=str) if chosen else None
    return line | {"error": row["error"]}


def _effects(effects: Mapping[str, Any]) -> dict[str, Any]:
    general, kl, perplexity = (
        effects.get(name) or {} for name in ("general_qa", "kl", "perplexity")
    )
    change = None
    if general:
        change = [general["after"] - general["before"], *general["change_interval"]]
    kl_spread = [kl["mean"], *kl["interval"]] if kl else None
    return {
        "general_qa": general.get("after"),
        **_spread("general_qa_change", change),
        **_spread("kl", kl_spread),
        "perplexity": perplexity.get("after"),
    }


def _spread(name: str, figure: Any) -> dict[str, Any]:
    """A figure with the ends of its interval in three columns."""
    value, low, high = figure or (None, None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}
