"""The reliability diagram: how often Yes is right where a model gives it some probability."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np

from nasalign.adapters.scaling import PlattScaling
from nasalign.evaluation.reliability import reliability, yes_probabilities
from nasalign.reporting.report import chart_style as style
from nasalign.reporting.report.chart_style import Chart, values
from nasalign.reporting.report.data_sets import DataSet
from nasalign.reporting.report.run_folder import Row
from nasalign.reporting.report.tables import row_odds

CURVES = {"before": style.BEFORE, "after": style.AFTER, "after, calibrated": style.TO_YES}
SHAPES = ["circle", "diamond", "square"]


def reliability_chart(data: DataSet, calibration: Mapping[str, Any]) -> Chart | None:
    """Return the diagram of a data set: before, after, and after calibration.

    A curve on the dashed diagonal is right as often as it says.

    Args:
        data: with its rows on both sides.
        calibration: of ``metrics.json``.
    """
    if len(data.rows) < 2:
        return None
    marks = [
        *_curve("before", data.rows["before"]),
        *_curve("after", data.rows["after"]),
    ]
    fitted = calibration["after"]
    if fitted:
        scaling = PlattScaling(fitted["slope"], fitted["offset"])
        marks += _curve("after, calibrated", data.rows["after"], scaling)
    shown = {name: CURVES[name] for name in dict.fromkeys(str(one["side"]) for one in marks)}
    right = alt.Scale(domain=[0, 1])
    base = alt.Chart(values(marks)).encode(
        x=style.unit("probability:Q", "probability of Yes"),
        color=style.colour("side", shown),
        tooltip=["side:N", style.tip("probability"), style.tip("share", "right"), "examples:Q"],
    )
    bars = base.mark_rule(opacity=0.45).encode(y=alt.Y("low:Q", scale=right), y2="high:Q")
    lines = base.mark_line(strokeWidth=2).encode(
        y=alt.Y("share:Q", title="share of which Yes is right", scale=right)
    )
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        y=alt.Y("share:Q", scale=right),
        shape=style.shape("side", list(shown), SHAPES[: len(shown)]),
    )
    ends = alt.Chart(values([{"at": 0}, {"at": 1}]))
    diagonal = ends.mark_line(color=style.PAGE, strokeDash=[4, 4], opacity=0.6).encode(
        x=style.unit("at:Q", "probability of Yes"), y=alt.Y("at:Q", scale=right)
    )
    described = f"Probability of Yes against how often it is right on {data.name}"
    return style.finished(diagonal + bars + lines + points, described, 260)


def _curve(side: str, rows: list[Row], scaling: PlattScaling | None = None) -> list[dict[str, Any]]:
    """The bins of one curve, as marks."""
    found = reliability(
        yes_probabilities(np.asarray(row_odds(rows)), scaling), [row["label"] for row in rows]
    )
    return [
        {
            "side": side,
            "probability": one.mean,
            "share": one.share,
            "low": one.bounds[0],
            "high": one.bounds[1],
            "examples": one.n,
        }
        for one in found
    ]
