"""The charts of a report: those of evaluations, and all of them by name."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
from altair.utils.schemapi import SchemaValidationError

from nasalign.evaluation.responses import KINDS, Histogram, Kind, confidence_histogram
from nasalign.reporting.formats import metric_name
from nasalign.reporting.report import chart_style as style
from nasalign.reporting.report.chart_style import Chart, values
from nasalign.reporting.report.comparison import measured_rows
from nasalign.reporting.report.data_sets import DataSet, is_right
from nasalign.reporting.report.head_charts import (
    head_chart,
    heads_chart,
    joint_charts,
    timeline_chart,
)
from nasalign.reporting.report.reliability_chart import reliability_chart
from nasalign.reporting.report.run_folder import SIDES, RunFiles, Side
from nasalign.reporting.report.tables import calibration_rows
from nasalign.reporting.report.tuning import epochs, limit_of

_PARTS = ("value", "low", "high")


def charts_of(files: RunFiles, sets: Sequence[DataSet]) -> dict[str, Chart]:
    """Return the charts of a run by the names that the template has for them.

    Raises:
        ValueError: a value is none that a chart can show.
    """
    try:
        return _charts(files, sets)
    except SchemaValidationError as error:  # of a value that the run's files hold
        raise ValueError(str(error)) from error


def _charts(files: RunFiles, sets: Sequence[DataSet]) -> dict[str, Chart]:
    if files.command == "compare":
        return comparison_charts(files)
    yes, _ = files.words
    found: dict[str, Chart | None] = {"heads": heads_chart(files)}
    if sets:
        found["gap"] = gap_chart(sets)
    for data in sets:
        found[f"metrics-{data.name}"] = metrics_chart(data, files.words)
        found[f"shifts-{data.name}"] = shifts_chart(data)
        if files.calibration and calibration_rows(files):
            found[f"reliability-{data.name}"] = reliability_chart(data, files.calibration)
        if data.rows:
            for kind, chart in confidence_charts(data).items():
                found[f"confidence-{data.name}-{kind}"] = chart
    if rows := epochs(files):
        aim = files.words[files.to_no]
        tau, share = limit_of(files, "tau"), limit_of(files, "share")
        found["model-nas"] = timeline_chart(rows, "beta", "model NAS", tau)
        found["yes-share"] = timeline_chart(rows, "yes_share", f"share of {aim}", share)
        found["head-nas"] = head_chart(rows)
    found |= joint_charts(files, yes)
    return {name: chart for name, chart in found.items() if chart}


def metrics_chart(data: DataSet, words: tuple[str, str]) -> Chart:
    """Return each metric before and after with its 95 % interval; undefined ones are left out."""
    names = ["accuracy", "recall", "specificity", "precision", "f1", "yes_rate", "ece"]
    if any(figures["invalid_rate"][0] > 0 for figures in data.figures.values()):
        names.append("invalid_rate")
    rows = [
        {"metric": metric_name(name, words), "side": side}
        | {part: value for part, value in zip(_PARTS, figures[name], strict=True) if value == value}
        for side, figures in data.figures.items()
        for name in names
        if name in figures and not math.isnan(figures[name][0])
    ]
    labels = [metric_name(name, words) for name in names]
    lines, points = _intervals(rows, "metric", labels, "side", style.SIDE_COLOURS)
    return style.finished(
        lines + points, f"Metrics on {data.name} before and after", 34 * len(names)
    )


def comparison_charts(files: RunFiles) -> dict[str, Chart]:
    """Return the chart of a comparison on each data set, by the template's name for it."""
    if files.comparison is None:
        return {}
    sets = files.comparison["datasets"]
    return {f"comparison-{name}": _comparison(files, name, sets[name]) for name in sets}


def _comparison(files: RunFiles, name: str, about: Mapping[str, Any]) -> Chart:
    """Accuracy and share of Yes of each row with intervals; a line where that share is right."""
    rows, share = measured_rows(files), metric_name("yes_rate", files.words)
    measures = {"accuracy": metric_name("accuracy"), "yes_rate": share}
    marks = [
        {"row": row["name"], "measure": says}
        | dict(zip(_PARTS, row["datasets"][name]["figures"][metric], strict=True))
        for row in rows
        for metric, says in measures.items()
    ]
    colours = {"accuracy": style.AFTER, share: style.BEFORE}
    lines, points = _intervals(marks, "row", [row["name"] for row in rows], "measure", colours)
    right = alt.Chart(values([{"right": about["positives"]}]))
    rule = right.mark_rule(color=style.PAGE, strokeDash=[4, 4], opacity=0.6).encode(
        x=style.unit("right:Q")
    )
    described = f"Accuracy and {share} of every row on {name}"
    return style.finished(rule + lines + points, described, 34 * len(rows))


def _intervals(
    rows: Sequence[Mapping[str, Any]], field: str, order: list[str], by: str, colours: dict
) -> tuple[alt.Chart, alt.Chart]:
    """Values with their intervals: a line a ``field``; colours and shapes say which ``by``."""
    base = alt.Chart(values(rows)).encode(
        y=alt.Y(f"{field}:N", sort=order, title=None),
        yOffset=alt.YOffset(f"{by}:N", sort=list(colours)),
        color=style.colour(by, colours),
        tooltip=[f"{field}:N", f"{by}:N", *(style.tip(name) for name in ("value", "low", "high"))],
    )
    bounded = base.transform_filter("isValid(datum.low)")  # of few answers there is no interval
    lines = bounded.mark_rule(strokeWidth=2.5).encode(x=style.unit("low:Q"), x2="high:Q")
    points = base.mark_point(filled=True, size=85, opacity=1).encode(
        x=style.unit("value:Q"), shape=style.shape(by, list(colours), ["circle", "diamond"])
    )
    return lines, points


def gap_chart(sets: Sequence[DataSet]) -> Chart:
    """Return precision and recall of each data set, joined by a line.

    A model that never says Yes has no precision, and so its recall stands alone.
    """
    rows = [
        {"data": data.name, "side": side}
        | {
            name: figures[name][0]
            for name in ("precision", "recall")
            if not math.isnan(figures[name][0])
        }
        for data in sets
        for side, figures in data.figures.items()
    ]
    base = alt.Chart(values(rows)).encode(
        y=alt.Y("data:N", sort=[data.name for data in sets], title=None),
        yOffset=alt.YOffset("side:N", sort=list(SIDES)),
        color=style.colour("side", style.SIDE_COLOURS),
        tooltip=["data:N", "side:N", style.tip("precision"), style.tip("recall")],
    )
    whole = base.transform_filter("isValid(datum.precision) && isValid(datum.recall)")
    lines = whole.mark_rule(strokeWidth=3, opacity=0.45).encode(
        x=style.unit("recall:Q"), x2="precision:Q"
    )
    ends = base.transform_fold(["precision", "recall"], as_=["end", "value"]).transform_filter(
        "isValid(datum.value)"
    )
    points = ends.mark_point(filled=True, size=95, opacity=1).encode(
        x=style.unit("value:Q"),
        shape=style.shape("end", ["recall", "precision"], ["circle", "square"]),
    )
    return style.finished(lines + points, "Precision and recall before and after", 44 * len(sets))


def confidence_charts(data: DataSet) -> dict[str, Chart]:
    """Return a histogram of confidence for each outcome, as in Figures 2 and 5."""
    found = {side: confidence_histogram(rows) for side, rows in data.rows.items()}
    most = max(max(part.counts[kind]) for part in found.values() for kind in KINDS)
    return {kind: _histogram(found, kind, most, data.name) for kind in KINDS}


def _histogram(found: Mapping[Side, Histogram], kind: Kind, most: int, name: str) -> Chart:
    rows = []
    for side, histogram in found.items():
        bins = zip(histogram.edges, histogram.edges[1:], histogram.counts[kind], strict=False)
        for low, high, count in bins:
            # Both sides share a bin: before has its left half, after its right one.
            middle = (low + high) / 2
            ends = (low + 0.006, middle) if side == "before" else (middle, high - 0.006)
            rows.append(
                {"side": side, "from": round(ends[0], 3), "to": round(ends[1], 3)}
                | {"answers": count, "confidence": f"{low:.1f} to {high:.1f}"}
            )
    bars = (
        alt.Chart(values(rows))
        .mark_rect()
        .encode(
            x=style.unit("from:Q", "confidence"),
            x2="to:Q",
            y2=alt.datum(0),
            y=alt.Y(
                "answers:Q",
                title="answers",
                scale=alt.Scale(domain=[0, max(most, 1)]),
                axis=style.whole_numbers(max(most, 1)),
            ),
            color=style.colour("side", style.SIDE_COLOURS),
            tooltip=["side:N", "confidence:N", "answers:Q"],
        )
    )
    return style.finished(bars, f"Confidence of {kind} on {name}", 150)


def shifts_chart(data: DataSet) -> Chart | None:
    """Return how many answers changed, by what they were and became."""
    rows: list[dict[str, Any]] = []
    for name, count in data.shifts.most_common():
        before, after = name.split(" to ")
        if before != after:
            now = "now right" if is_right(after) else "now wrong"
            rows.append({"shift": name, "answers": count, "now": now})
    if not rows:
        return None
    most = max(int(row["answers"]) for row in rows)
    bars = alt.Chart(values(rows)).encode(
        y=alt.Y("shift:N", sort=[str(row["shift"]) for row in rows], title=None),
        x=alt.X("answers:Q", title="answers", axis=style.whole_numbers(most)),
        tooltip=["shift:N", "answers:Q", "now:N"],
    )
    filled = bars.mark_bar().encode(
        color=style.colour("now", {"now right": style.RIGHT, "now wrong": style.WRONG})
    )
    counts = bars.mark_text(align="left", dx=4, color=style.PAGE).encode(text="answers:Q")
    return style.finished(filled + counts, f"Answers that changed on {data.name}", 26 * len(rows))
