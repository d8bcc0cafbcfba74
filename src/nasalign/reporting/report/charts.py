"""The charts of the report."""

from collections.abc import Mapping, Sequence

import altair as alt

from nasalign.evaluation.metrics import Array
from nasalign.evaluation.responses import KINDS, Histogram, Kind, confidence_histogram
from nasalign.reporting.report.chart_style import (
    FAINT,
    PAGE,
    RIGHT,
    TO_NO,
    TO_YES,
    WRONG,
    Chart,
    fate_colour,
    fate_dash,
    finished,
    number,
    side_colour,
    side_shape,
    unit,
    values,
)
from nasalign.reporting.report.data_sets import METRIC_NAMES, DataSet, is_right
from nasalign.reporting.report.run_folder import SIDES, Row, RunFiles, Side, fates


def metrics_chart(data: DataSet, yes: str) -> Chart:
    """Returns each metric before and after with its 95 % interval."""
    names = ["accuracy", "precision", "recall", "f1", "yes_rate", "ece"]
    if any(figures["invalid_rate"][0] > 0 for figures in data.figures.values()):
        names.append("invalid_rate")
    labels = {name: METRIC_NAMES[name].replace("Yes", yes) for name in names}
    rows = [
        {
            "metric": labels[name],
            "side": side,
            **dict(zip(("value", "low", "high"), figures[name], strict=True)),
        }
        for side, figures in data.figures.items()
        for name in names
    ]
    base = alt.Chart(values(rows)).encode(
        y=alt.Y("metric:N", sort=list(labels.values()), title=None),
        yOffset=alt.YOffset("side:N", sort=list(SIDES)),
        color=side_colour(),
        tooltip=["metric:N", "side:N", *(number(name) for name in ("value", "low", "high"))],
    )
    lines = base.mark_rule(strokeWidth=2.5).encode(x=unit("low:Q"), x2="high:Q")
    points = base.mark_point(filled=True, size=85, opacity=1).encode(
        x=unit("value:Q"), shape=side_shape()
    )
    return finished(lines + points, f"Metrics on {data.name} before and after", 34 * len(names))


def gap_chart(sets: Sequence[DataSet]) -> Chart:
    """Returns precision and recall of each data set, joined by a line."""
    rows = [
        {
            "data": data.name,
            "side": side,
            "precision": figures["precision"][0],
            "recall": figures["recall"][0],
        }
        for data in sets
        for side, figures in data.figures.items()
    ]
    base = alt.Chart(values(rows)).encode(
        y=alt.Y("data:N", sort=[data.name for data in sets], title=None),
        yOffset=alt.YOffset("side:N", sort=list(SIDES)),
        color=side_colour(),
        tooltip=["data:N", "side:N", number("precision"), number("recall")],
    )
    lines = base.mark_rule(strokeWidth=3, opacity=0.45).encode(x=unit("recall:Q"), x2="precision:Q")
    ends = base.transform_fold(["precision", "recall"], as_=["end", "value"])
    points = ends.mark_point(filled=True, size=95, opacity=1).encode(
        x=unit("value:Q"),
        shape=alt.Shape(
            "end:N",
            title=None,
            scale=alt.Scale(domain=["recall", "precision"], range=["circle", "square"]),
        ),
    )
    return finished(lines + points, "Precision and recall before and after", 44 * len(sets))


def confidence_charts(data: DataSet) -> dict[str, Chart]:
    """Returns a histogram of confidence for each outcome, as in Figures 2 and 5."""
    found = {side: confidence_histogram(rows) for side, rows in data.rows.items()}
    most = max(max(max(part.counts[kind]) for kind in KINDS) for part in found.values())
    return {kind: _histogram(found, kind, most, data.name) for kind in KINDS}


def _histogram(found: Mapping[Side, Histogram], kind: Kind, most: int, name: str) -> Chart:
    rows = []
    for side, histogram in found.items():
        bins = zip(histogram.edges, histogram.edges[1:], histogram.counts[kind], strict=False)
        for low, high, count in bins:
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
            x=unit("from:Q", "confidence"),
            x2="to:Q",
            y2=alt.datum(0),
            y=alt.Y("answers:Q", title="answers", scale=alt.Scale(domain=[0, max(most, 1)])),
            color=side_colour(),
            tooltip=["side:N", "confidence:N", "answers:Q"],
        )
    )
    return finished(bars, f"Confidence of {kind} on {name}", 150)


def heads_chart(files: RunFiles) -> Chart | None:
    """Returns the map of single head NAS, with the selected heads marked by what became of them."""
    if files.nas is None:
        return None
    fate, (yes, no) = fates(files), files.words
    rows = [
        {
            "layer": layer,
            "head": head,
            "NAS": round(float(value), 4),
            "fate": fate.get((layer, head), "not selected"),
        }
        for (layer, head), value in _cells(files.nas)
    ]
    most = max(float(abs(files.nas).max()), 1e-9)
    base = alt.Chart(values(rows)).encode(
        x=alt.X("layer:O", axis=_every(files.nas.shape[0])),
        y=alt.Y("head:O", axis=_every(files.nas.shape[1])),
        tooltip=["layer:O", "head:O", number("NAS"), "fate:N"],
    )
    cells = base.mark_rect().encode(
        color=alt.Color(
            "NAS:Q",
            title=f"NAS: above 0 it looks at {no}, below at {yes}",
            scale=alt.Scale(
                type="sqrt", domain=[-most, 0, most], range=[TO_YES, FAINT, TO_NO], nice=False
            ),
            legend=alt.Legend(gradientLength=220, titleLimit=300, tickCount=5),
        )
    )
    marked = {"kept": "circle", "cancelled": "cross", "not reached": "square"}
    marks = (  # all hollow, as a legend cannot fill one of its symbols alone
        base.mark_point(size=70, strokeWidth=2.5, filled=False, color=PAGE, opacity=1)
        .encode(
            shape=alt.Shape(
                "fate:N",
                title=None,
                scale=alt.Scale(domain=list(marked), range=list(marked.values())),
                legend=alt.Legend(
                    orient="bottom", symbolStrokeColor=PAGE, symbolFillColor="transparent"
                ),
            ),
        )
        .transform_filter(alt.FieldOneOfPredicate(field="fate", oneOf=list(marked)))
    )
    step = 16 if files.nas.shape[1] <= 16 else 10
    layered = (cells + marks).resolve_scale(shape="independent", color="independent")
    return finished(layered, "NAS of every head by layer", step * files.nas.shape[1])


def _every(count: int) -> alt.Axis:
    """An axis of at most 16 labels, which is what a phone has room for.

    It says so by an expression, since Vega drops the first of ``values`` at some widths.
    """
    label = f"datum.value % {-(-count // 16)} ? '' : datum.label"
    return alt.Axis(labelAngle=0, labelOverlap=False, ticks=False, labelExpr=label)


def _cells(nas: Array) -> list[tuple[tuple[int, int], float]]:
    heads = nas.shape[1]
    return [((at // heads, at % heads), value) for at, value in enumerate(nas.flatten())]


def timeline_chart(rows: Sequence[Row], field: str, title: str, limit: float | None) -> Chart:
    """Returns a quantity of the whole model over all epochs, a line a head.

    Args:
        rows: of ``report_parts.epochs``.
        field: the quantity.
        title: its name.
        limit: where tuning halts, or None.
    """
    base = alt.Chart(values(rows))
    lines = base.mark_line(point=alt.OverlayMarkDef(size=30), strokeWidth=2).encode(
        x=alt.X(
            "at:Q",
            title="epochs, all heads",
            axis=alt.Axis(tickMinStep=1, format="d"),
            scale=alt.Scale(nice=False),
        ),
        y=alt.Y(f"{field}:Q", title=title, scale=alt.Scale(zero=False)),
        detail="name:N",
        color=fate_colour(rows),
        strokeDash=fate_dash(rows),
        tooltip=["name:N", "epoch:Q", number(field, title), "fate:N"],
    )
    if limit is None:
        return finished(lines, f"{title} over all epochs", 190)
    rule = alt.Chart(values([{"limit": limit}])).mark_rule(color=PAGE, strokeDash=[2, 3])
    layered = lines + rule.encode(y="limit:Q")
    return finished(layered, f"{title} over all epochs", 190)


def head_chart(rows: Sequence[Row]) -> Chart:
    """Returns the NAS of each tuned head over its own epochs; the legend picks a fate."""
    pick = alt.selection_point(fields=["fate"], bind="legend")
    lines = (
        alt.Chart(values(rows))
        .mark_line(point=alt.OverlayMarkDef(size=30), strokeWidth=2)
        .encode(
            x=alt.X("epoch:Q", title="epoch of the head", axis=alt.Axis(tickMinStep=1, format="d")),
            y=alt.Y("alpha:Q", title="NAS of the head"),
            detail="name:N",
            color=fate_colour(rows),
            strokeDash=fate_dash(rows),
            opacity=alt.condition(pick, alt.value(1), alt.value(0.12)),
            tooltip=["name:N", "epoch:Q", number("alpha", "NAS of the head"), "fate:N"],
        )
        .add_params(pick)
    )
    return finished(lines, "NAS of each tuned head over its epochs", 190)


def shifts_chart(data: DataSet) -> Chart | None:
    """Returns how many answers changed, by what they were and became."""
    rows = []
    for name, count in data.shifts.most_common():
        before, after = name.split(" to ")
        if before != after:
            now = "now right" if is_right(after) else "now wrong"
            rows.append({"shift": name, "answers": count, "now": now})
    if not rows:
        return None
    bars = alt.Chart(values(rows)).encode(
        y=alt.Y("shift:N", sort=[str(row["shift"]) for row in rows], title=None),
        x=alt.X("answers:Q", title="answers", axis=alt.Axis(tickMinStep=1, format="d")),
        tooltip=["shift:N", "answers:Q", "now:N"],
    )
    filled = bars.mark_bar().encode(
        color=alt.Color(
            "now:N",
            title=None,
            scale=alt.Scale(domain=["now right", "now wrong"], range=[RIGHT, WRONG]),
        )
    )
    counts = bars.mark_text(align="left", dx=4, color=PAGE).encode(text="answers:Q")
    return finished(filled + counts, f"Answers that changed on {data.name}", 26 * len(rows))
