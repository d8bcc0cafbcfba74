"""Tables of the report: figures by subset, shifts of answers, and side effects."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from nasalign.evaluation.metrics import Array, as_figure
from nasalign.evaluation.ranking import log_odds
from nasalign.evaluation.responses import shift_ratios
from nasalign.reporting.formats import METRIC_NAMES, between, number, percent, rounded, signed
from nasalign.reporting.report.data_sets import DataSet, outcome
from nasalign.reporting.report.run_folder import RunFiles

FREE_ANSWERS = {"Det-T": "right", "Det-F": "wrong", "Non-Det": "none"}
_SAYS = {
    "all": "all questions",
    "Det-T": "answers it rightly (Det-T)",
    "Det-F": "answers it wrongly (Det-F)",
    "Non-Det": "gives no answer (Non-Det)",
    "unclear": "the judge was undecided (unclear)",
}
_COLUMNS = (
    *("yes_rate", "no_rate", "unsure_rate", "accuracy"),
    *("recall", "specificity", "negative_bias"),
)


def calibration_rows(files: RunFiles) -> list[dict[str, Any]]:
    """Return a row for each model and data set: slope, offset, and the error without and with them.

    There is none of a model that has no calibration, or of a run of an earlier version.
    """
    about = files.calibration or {}
    names = {"before": "untouched", "after": "aligned"}
    return [
        {"data": data, "side": names[side], "slope": fit["slope"], "offset": fit["offset"]} | errors
        for side, fit in ((side, about.get(side)) for side in names)
        if fit
        for data, errors in fit["datasets"].items()
    ]


def row_odds(rows: Sequence[Mapping[str, Any]]) -> Array:
    """Return the log odds of Yes of rows of an evaluation, [N] float64."""
    both = (torch.tensor([row[name] for row in rows]) for name in ("p_yes", "p_no"))
    return log_odds(*both)


def subset_tables(files: RunFiles) -> list[dict[str, Any]]:
    """Return the tables of a run that asked what the model knows, or in several scenarios.

    Returns:
        By table its ``title``, the titles of its ``columns`` by metric, and ``rows``: of each its
        label, whether it is a part of the row above, its number of examples, and its figures, each
        as (value, low, high) or None.
    """
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


def _table(title: str, groups: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """A row for each group and subset."""
    every = [metrics for parts in groups.values() for metrics in parts.values()]
    names = [name for name in _COLUMNS if any(name in metrics["intervals"] for metrics in every)]
    rows = []
    for group, parts in groups.items():
        for kind, metrics in parts.items():
            label = group if group and kind == "all" else _SAYS[kind]
            intervals = metrics["intervals"]
            cells = [
                as_figure(metrics[name], intervals[name]) if name in intervals else None
                for name in names
            ]
            rows.append((label, kind != "all", metrics["n"], cells))
    return {"title": title, "columns": {name: METRIC_NAMES[name] for name in names}, "rows": rows}


def contingency(data: DataSet) -> list[dict[str, Any]]:
    """Return the outcomes before by those after, a table for each label.

    Returns:
        By label ``kinds`` and ``rows``: what it was before, the counts after, and their sum.
    """
    tables = []
    for label, kinds in ((True, ("TP", "FN", "invalid")), (False, ("TN", "FP", "invalid"))):
        pairs = [(outcome(old), outcome(new)) for old, new in data.pairs if old["label"] == label]
        counts = Counter(pairs)
        used = [kind for kind in kinds if any(kind in pair for pair in counts)]
        rows = []
        for old in used:
            row = [counts[old, new] for new in used]
            rows.append((old, row, sum(row)))
        if rows:
            tables.append({"label": label, "kinds": used, "rows": rows})
    return tables


def by_knowledge(data: DataSet) -> list[dict[str, Any]]:
    """Return which share of No became Yes, by the free answer (Tables 17 and 18); may be empty."""
    marked = all("knowledge" in old and "confident" in old for old, _ in data.pairs)
    if not data.pairs or not marked:
        return []
    before, after = data.rows["before"], data.rows["after"]
    missed = shift_ratios(before, after, "FN").cells
    rightly = shift_ratios(before, after, "TN").cells
    return [
        {"answer": FREE_ANSWERS[one.response], "confidence": one.confidence.lower()}
        | {"FN": one, "TN": other}
        for one, other in zip(missed, rightly, strict=True)
    ]


def effect_rows(effects: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return a row a measure of side effects: ``name``, ``before``, ``after`` and ``says``."""
    rows = []
    if answers := effects.get("general_qa"):
        low, high = answers["change_interval"]
        change = answers["after"] - answers["before"]
        told = "cannot be told from none" if low <= 0 <= high else "is more than chance"
        says = (
            f"{answers['n']:,} questions of {answers['data']} asked freely, judged by "
            f"{answers['judge']}. The change of {signed(change)} "
            f"(95\N{NO-BREAK SPACE}% {between((low, high), sign=True)}) {told}."
        )
        if any(cut := answers.get("cut", [0])):  # missing in the runs of an earlier version
            says += f" Cut at the limit of tokens: {' and '.join(map(percent, cut))}."
        sides = {side: number(answers[side]) for side in ("before", "after")}
        rows.append({"name": "Right free answers", **sides, "says": says})
    if kl := effects.get("kl"):
        low, high = kl["interval"]
        says = (
            f"Mean KL divergence in nats on {kl['tokens']:,} tokens of {kl['prompts']:,} neutral "
            f"texts, 95\N{NO-BREAK SPACE}% {low:.2g} to {high:.2g}, at most {kl['max']:.2g}; the "
            f"likeliest token is the same in {percent(kl['same_top_token'])}."
        )
        sides = {"before": "", "after": f"{kl['mean']:.3g}"}
        rows.append({"name": "Divergence of the next token", **sides, "says": says})
    if perplexity := effects.get("perplexity"):
        says = f"On {perplexity['tokens']:,} tokens of neutral texts; lower is better."
        sides = {side: rounded(perplexity[side], 2) for side in ("before", "after")}
        rows.append({"name": "Perplexity", **sides, "says": says})
    return rows
