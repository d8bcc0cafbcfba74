"""The chart of a comparison: accuracy and share of Yes of every row on a data set."""

import altair as alt

from nasalign.reporting.report.chart_style import (
    AFTER,
    BEFORE,
    PAGE,
    Chart,
    finished,
    number,
    unit,
    values,
)
from nasalign.reporting.report.comparison import about, had
from nasalign.reporting.report.run_folder import RunFiles

_ROW = 34  # pixels of the chart


def comparison_charts(files: RunFiles) -> dict[str, Chart]:
    """Returns a chart a data set, by the name that the template has for it."""
    if files.comparison is None:
        return {}
    names = list(files.comparison["datasets"])
    return {f"comparison-{name}": _chart(files, name) for name in names if had(files)}


def _chart(files: RunFiles, name: str) -> Chart:
    """Accuracy and share of Yes of each row with intervals; a line where that share is right."""
    yes, _ = files.words
    share, rows = f"share of {yes}", had(files)
    measures = {"accuracy": "accuracy", "yes_rate": share}
    marks = [
        {"row": row["name"], "measure": says}
        | dict(zip(("value", "low", "high"), row["datasets"][name]["figures"][metric], strict=True))
        for row in rows
        for metric, says in measures.items()
    ]
    domain = list(measures.values())
    base = alt.Chart(values(marks)).encode(
        y=alt.Y("row:N", sort=[row["name"] for row in rows], title=None),
        yOffset=alt.YOffset("measure:N", sort=domain),
        color=alt.Color(
            "measure:N", title=None, scale=alt.Scale(domain=domain, range=[AFTER, BEFORE])
        ),
        tooltip=["row:N", "measure:N", *(number(one) for one in ("value", "low", "high"))],
    )
    lines = base.mark_rule(strokeWidth=2.5).encode(x=unit("low:Q"), x2="high:Q")
    points = base.mark_point(filled=True, size=85, opacity=1).encode(
        x=unit("value:Q"),
        shape=alt.Shape(
            "measure:N", title=None, scale=alt.Scale(domain=domain, range=["circle", "diamond"])
        ),
    )
    right = alt.Chart(values([{"right": about(files, name)["positives"]}]))
    rule = right.mark_rule(color=PAGE, strokeDash=[4, 4], opacity=0.6).encode(x=unit("right:Q"))
    described = f"Accuracy and {share} of every row on {name}"
    return finished(rule + lines + points, described, _ROW * len(rows))
