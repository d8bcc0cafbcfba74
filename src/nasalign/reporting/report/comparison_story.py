"""What a comparison comes to: its verdict in words."""

from collections.abc import Iterator, Sequence

from nasalign.evaluation.metrics import Figure
from nasalign.reporting.report.comparison import had
from nasalign.reporting.report.run_folder import Row, RunFiles
from nasalign.reporting.report.story import Verdict, direction, spread


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
