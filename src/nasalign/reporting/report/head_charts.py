"""The charts of heads and of their tuning."""

from collections.abc import Sequence

import altair as alt
import numpy as np

from nasalign.reporting.report import chart_style as style
from nasalign.reporting.report.chart_style import Chart, values
from nasalign.reporting.report.not_selected import why_not
from nasalign.reporting.report.run_folder import Row, RunFiles
from nasalign.reporting.report.tuning import fates

_FATES = {
    "kept": (style.AFTER, [1, 0]),
    "cancelled": (style.BEFORE, [4, 3]),
    "not finished": (style.TO_YES, [1, 2]),
}
_KINDS = {  # of the samples that nasa+ holds back
    "known": "known answers",
    "unknown": "answers it does not know",
    "direct": "asked directly",
    "context": "with a context",
    "numbers": "sums",
}


def heads_chart(files: RunFiles) -> Chart | None:
    """Return the map of single head NAS, with the selected heads marked by what became of them."""
    if files.nas is None:
        return None
    fate, (yes, no), (layers, heads) = fates(files), files.words, files.nas.shape
    why = why_not(files)
    known = np.argwhere(~np.isnan(files.nas)).tolist()  # layers may differ in heads, or have none
    rows = [
        {"layer": layer, "head": head, "NAS": round(float(files.nas[layer, head]), 4)}
        | {"fate": fate.get((layer, head), "not selected"), "why": why.get((layer, head), "")}
        for layer, head in known
    ]
    most = max(float(np.nanmax(abs(files.nas))), 1e-9)
    base = alt.Chart(values(rows)).encode(
        x=alt.X("layer:O", axis=_every(layers), scale=alt.Scale(domain=[*range(layers)])),
        y=alt.Y("head:O", axis=_every(heads), scale=alt.Scale(domain=[*range(heads)])),
        tooltip=["layer:O", "head:O", style.tip("NAS"), "fate:N", "why:N"],
    )
    cells = base.mark_rect().encode(
        color=alt.Color(
            "NAS:Q",
            title=f"NAS: above 0 it looks at {no}, below at {yes}",
            scale=alt.Scale(
                type="sqrt",
                domain=[-most, 0, most],
                range=[style.TO_YES, style.FAINT, style.TO_NO],
                nice=False,
            ),
            legend=alt.Legend(gradientLength=220, titleLimit=300, tickCount=5),
        )
    )
    marked = {"kept": "circle", "cancelled": "cross", "not reached": "square"}
    legend = alt.Legend(
        orient="bottom", symbolStrokeColor=style.PAGE, symbolFillColor="transparent"
    )
    marks = (  # all hollow, as a legend cannot fill one of its symbols alone
        base.mark_point(size=70, strokeWidth=2.5, filled=False, color=style.PAGE, opacity=1)
        .encode(shape=style.shape("fate", list(marked), list(marked.values()), legend=legend))
        .transform_filter(alt.FieldOneOfPredicate(field="fate", oneOf=list(marked)))
    )
    layered = (cells + marks).resolve_scale(shape="independent", color="independent")
    step = 16 if heads <= 16 else 10
    title = "NAS of every head by layer"
    if len(known) < layers * heads:
        title += "; blank: no head with softmax attention over the prompt"
    return style.finished(layered, title, step * heads)


def _every(count: int) -> alt.Axis:
    """An axis of at most 16 labels, which is what a phone has room for.

    It says so by an expression, since Vega drops the first of ``values`` at some widths.
    """
    label = f"datum.value % {-(-count // 16)} ? '' : datum.label"
    return alt.Axis(labelAngle=0, labelOverlap=False, ticks=False, labelExpr=label)


def timeline_chart(rows: Sequence[Row], field: str, title: str, limit: float | None) -> Chart:
    """Return a quantity of the whole model over all epochs, a line a head.

    ``rows`` are those of ``tuning.epochs``; a rule is drawn at ``limit``, where tuning halts.
    """
    plain = alt.Scale(nice=False)
    lines = _lines(rows).encode(
        x=alt.X("at:Q", title="epochs, all heads", axis=style.whole_numbers(), scale=plain),
        y=alt.Y(f"{field}:Q", title=title, scale=alt.Scale(zero=False)),
        tooltip=["name:N", "epoch:Q", style.tip(field, title), "fate:N"],
    )
    if limit is not None:
        rule = alt.Chart(values([{"limit": limit}])).mark_rule(color=style.PAGE, strokeDash=[2, 3])
        lines = lines + rule.encode(y="limit:Q")
    return style.finished(lines, f"{title} over all epochs", 190)


def head_chart(rows: Sequence[Row]) -> Chart:
    """Return the NAS of each tuned head over its own epochs; the legend picks a fate."""
    pick = alt.selection_point(fields=["fate"], bind="legend")
    lines = (
        _lines(rows)
        .encode(
            x=alt.X("epoch:Q", title="epoch of the head", axis=style.whole_numbers()),
            y=alt.Y("alpha:Q", title="NAS of the head"),
            opacity=alt.condition(pick, alt.value(1), alt.value(0.12)),
            tooltip=["name:N", "epoch:Q", style.tip("alpha", "NAS of the head"), "fate:N"],
        )
        .add_params(pick)
    )
    return style.finished(lines, "NAS of each tuned head over its epochs", 190)


def _lines(rows: Sequence[Row]) -> alt.Chart:
    """A line a head, in the look of what became of it."""
    points = alt.OverlayMarkDef(size=30)
    lines = alt.Chart(values(rows)).mark_line(point=points, strokeWidth=2)
    found = [fate for fate in _FATES if any(row["fate"] == fate for row in rows)]
    colours, dashes = (
        alt.Scale(domain=found, range=[_FATES[fate][part] for fate in found]) for part in (0, 1)
    )
    legend = alt.Legend(symbolType="stroke")
    return lines.encode(
        detail="name:N",
        color=alt.Color("fate:N", title=None, scale=colours, legend=legend),
        strokeDash=alt.StrokeDash("fate:N", title=None, scale=dashes, legend=legend),
    )


def joint_charts(files: RunFiles, yes: str) -> dict[str, Chart | None]:
    """Return accuracy and share of Yes on what was held back, over the epochs, a line a kind."""
    if not files.joint:
        return {}
    return {
        "joint-accuracy": _joint(files, "accuracy", "accuracy"),
        "joint-yes": _joint(files, "yes_rate", f"share of {yes}"),
    }


def _joint(files: RunFiles, name: str, title: str) -> Chart:
    rows = [
        {"epoch": row["epoch"], "kind": _KINDS.get(kind, kind), "value": value}
        for row in files.joint
        for kind, value in row[name].items()
    ]
    lines = (
        alt.Chart(values(rows))
        .mark_line(point=alt.OverlayMarkDef(size=40), strokeWidth=2)
        .encode(
            x=alt.X("epoch:Q", title="epoch", axis=style.whole_numbers()),
            y=alt.Y("value:Q", title=title, scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("kind:N", title=None),
            strokeDash=alt.StrokeDash("kind:N", title=None),
            tooltip=["kind:N", "epoch:Q", style.tip("value", title)],
        )
    )
    return style.finished(lines, f"{title} on held-back samples, by epoch", 190)
