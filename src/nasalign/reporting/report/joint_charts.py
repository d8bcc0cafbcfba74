"""Charts of tuning all heads together: accuracy and share of Yes over the epochs, a line a kind."""

import altair as alt

from nasalign.reporting.report.chart_style import Chart, finished, number, values
from nasalign.reporting.report.joint_rows import KINDS
from nasalign.reporting.report.run_folder import RunFiles


def joint_charts(files: RunFiles, yes: str) -> dict[str, Chart | None]:
    """Returns accuracy and share of Yes on what was held back, over the epochs, a line a kind."""
    if not files.joint:
        return {}
    return {
        "joint-accuracy": _lines(files, "accuracy", "accuracy"),
        "joint-yes": _lines(files, "yes_rate", f"share of {yes}"),
    }


def _lines(files: RunFiles, name: str, title: str) -> Chart:
    rows = [
        {"epoch": row["epoch"], "kind": KINDS.get(kind, kind), "value": value}
        for row in files.joint
        for kind, value in row[name].items()
    ]
    lines = (
        alt.Chart(values(rows))
        .mark_line(point=alt.OverlayMarkDef(size=40), strokeWidth=2)
        .encode(
            x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, format="d")),
            y=alt.Y("value:Q", title=title, scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("kind:N", title=None),
            strokeDash=alt.StrokeDash("kind:N", title=None),
            tooltip=["kind:N", "epoch:Q", number("value", title)],
        )
    )
    return finished(lines, f"{title} on held-back samples, by epoch", 190)
