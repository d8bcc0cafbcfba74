"""All charts of a report, by the names that its template has for them."""

from collections.abc import Sequence

from altair.utils.schemapi import SchemaValidationError

from nasalign.reporting.report.chart_style import Chart, vega_script
from nasalign.reporting.report.charts import (
    confidence_charts,
    gap_chart,
    head_chart,
    heads_chart,
    metrics_chart,
    shifts_chart,
    timeline_chart,
)
from nasalign.reporting.report.comparison_charts import comparison_charts
from nasalign.reporting.report.data_sets import DataSet
from nasalign.reporting.report.joint_charts import joint_charts
from nasalign.reporting.report.run_folder import RunFiles
from nasalign.reporting.report.tuning import epochs, limit_of

__all__ = ["charts_of", "vega_script"]


def charts_of(files: RunFiles, sets: Sequence[DataSet]) -> dict[str, Chart]:
    """Returns the charts of a run by the names that the template has for them.

    Raises:
        ValueError: a value is none that a chart can show.
    """
    try:
        return _charts(files, sets)
    except SchemaValidationError as error:
        raise ValueError(str(error)) from error


def _charts(files: RunFiles, sets: Sequence[DataSet]) -> dict[str, Chart]:
    if files.kind == "compare":
        return comparison_charts(files)
    yes, _ = files.words
    found: dict[str, Chart | None] = {"heads": heads_chart(files)}
    if sets:
        found["gap"] = gap_chart(sets)
    for data in sets:
        found[f"metrics-{data.name}"] = metrics_chart(data, yes)
        found[f"shifts-{data.name}"] = shifts_chart(data)
        if data.rows:
            for kind, chart in confidence_charts(data).items():
                found[f"confidence-{data.name}-{kind}"] = chart
    rows = epochs(files)
    if rows:
        found["model-nas"] = timeline_chart(rows, "beta", "model NAS", limit_of(files, "tau"))
        share = limit_of(files, "share")
        aim = files.words[files.to_no]
        found["yes-share"] = timeline_chart(rows, "yes_share", f"share of {aim}", share)
        found["head-nas"] = head_chart(rows)
    found |= joint_charts(files, yes)
    return {name: chart for name, chart in found.items() if chart}
