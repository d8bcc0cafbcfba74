"""What a comparison comes to: its verdict in words, and a chart a data set."""

from collections.abc import Iterator, Sequence

import altair as alt

from nasalign.evaluation.metrics import Figure
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
from nasalign.reporting.report.files import Row, RunFiles
from nasalign.reporting.report.story import Verdict, direction, spread

_ROW = 34  # pixels of the chart


def comparison_verdict(files: RunFiles) -> Verdict:
    """Returns what a comparison comes to, by the first data set."""
    if files.comparison is None:
        done = len(list((files.folder / "compare").glob("*.json")))
        sentence = f"This comparison on {files.name} is not finished: {done} rows are done."
        return Verdict(
            "Unfinished", "plain", sentence, ["Go on with the same command and --resume."]
        )
    tables, rows = list(files.comparison["datasets"]), had(files)
    sentence = _best(files, rows, tables[0])
    notes = [_best(files, rows, name) for name in tables[1:]]
    notes += list(_beyond_chance(rows, tables[0]))
    failed = [row["name"] for row in files.comparison["rows"] if row["error"]]
    if failed:
        notes.append(f"Not to be had here: {', '.join(failed)}; the table says why.")
    return Verdict("Comparison", "plain", sentence, notes)


def _best(files: RunFiles, rows: Sequence[Row], name: str) -> str:
    """The row of highest accuracy on a data set, beside the untouched model."""

    def accuracy(row: Row) -> Figure:
        value, low, high = row["datasets"][name]["figures"]["accuracy"]
        return value, low, high

    best = max(rows, key=lambda row: accuracy(row)[0])
    if best is rows[0]:
        return (
            f"On {name} none of {len(rows)} rows is more accurate than the untouched "
            f"{files.name}: {spread(accuracy(best))}."
        )
    return (
        f"On {name} the most accurate of {len(rows)} rows is {best['name']}: "
        f"{spread(accuracy(best))}, the untouched {files.name} {spread(accuracy(rows[0]))}."
    )


def _beyond_chance(rows: Sequence[Row], name: str) -> Iterator[str]:
    """Names the rows whose change of accuracy has an interval above or below 0."""
    changes = {
        row["name"]: direction(tuple(row["datasets"][name]["figures"]["accuracy_change"]))
        for row in rows[1:]
    }
    for way, says in ((1, "More"), (-1, "Less")):
        found = [row for row, change in changes.items() if change == way]
        if found:
            yield f"{says} accurate on {name} beyond its interval: {', '.join(found)}."


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
