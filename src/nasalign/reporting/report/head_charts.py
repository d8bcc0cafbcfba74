"""The charts of heads and of their tuning."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import torch

from nasalign.evaluation.head_map import head_map, map_height
from nasalign.nas.heads import places
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
    "long": "with a long context",
    "negated": "negated",
    "compared": "two compared",
    "unknowable": "made-up names",
    "numbers": "sums",
    "rows": "your rows",
}


def heads_chart(files: RunFiles) -> Chart | None:
    """Return the map of single head NAS, with the selected heads marked by what became of them."""
    if files.nas is None:
        return None
    layers, heads = files.nas.shape
    nas = torch.from_numpy(files.nas)
    chart = head_map(nas, fates(files), files.words, why_not(files))
    title = "NAS of every head by layer"
    if len(places(nas)) < layers * heads:  # layers may differ in heads, or have none
        title += "; blank: no head with softmax attention over the prompt"
    return style.finished(chart, title, map_height(heads))


def timeline_chart(rows: Sequence[Row], field: str, title: str, limit: float | None) -> Chart:
    """Return a quantity of the whole model over all epochs, a line a head.

    ``rows`` are those of ``tuning.epochs``; a rule is drawn at ``limit``, where tuning halts.
    """
    plain = alt.Scale(nice=False)
    lines = _lines(rows).encode(
        x=alt.X("at:Q", title="epochs, all heads", axis=_epochs(rows, "at"), scale=plain),
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
            x=alt.X("epoch:Q", title="epoch of the head", axis=_epochs(rows, "epoch")),
            y=alt.Y("alpha:Q", title="NAS of the head"),
            opacity=alt.condition(pick, alt.value(1), alt.value(0.12)),
            tooltip=["name:N", "epoch:Q", style.tip("alpha", "NAS of the head"), "fate:N"],
        )
        .add_params(pick)
    )
    return style.finished(lines, "NAS of each tuned head over its epochs", 190)


def _epochs(rows: Sequence[Row], field: str) -> alt.Axis:
    """An axis of epochs."""
    return style.whole_numbers(max((int(row[field]) for row in rows), default=0))


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
        "head-effects": _head_effects(files.head_effects) if files.head_effects else None,
    }


def _head_effects(found: dict[str, Any]) -> Chart:
    """What each head carries, a bar a head."""
    rows = [{**row, "name": f"layer {row['layer']}, head {row['head']}"} for row in found["heads"]]
    title = "lower loss on held-back samples, in nats"
    bars = (
        alt.Chart(values(rows))
        .mark_bar(color=style.AFTER)
        .encode(
            x=alt.X("effect:Q", title=title),
            y=alt.Y("name:N", title=None, sort=None),
            tooltip=["name:N", style.tip("effect", title)],
        )
    )
    return style.finished(bars, "What the change of each head carries", alt.Step(14))


def _joint(files: RunFiles, name: str, title: str) -> Chart:
    rows = [
        {"epoch": row["epoch"], "kind": _KINDS.get(kind, kind), "value": value}
        for row in files.joint
        for kind, value in row[name].items()
    ]
    legend = alt.Legend(columns=2)  # in one row it would be cut off
    lines = (
        alt.Chart(values(rows))
        .mark_line(point=alt.OverlayMarkDef(size=40), strokeWidth=2)
        .encode(
            x=alt.X("epoch:Q", title="epoch", axis=_epochs(rows, "epoch")),
            y=alt.Y("value:Q", title=title, scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("kind:N", title=None, legend=legend),
            strokeDash=alt.StrokeDash("kind:N", title=None, legend=legend),
            tooltip=["kind:N", "epoch:Q", style.tip("value", title)],
        )
    )
    return style.finished(lines, f"{title} on held-back samples, by epoch", 190)
