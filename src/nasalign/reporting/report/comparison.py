"""Ways to correct a model beside each other, from ``comparison.json``: tables and verdict."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nasalign.evaluation.metrics import Figure
from nasalign.reporting.comparison_table import COLUMNS, comparison_line
from nasalign.reporting.formats import percent
from nasalign.reporting.report.run_folder import Row, RunFiles
from nasalign.reporting.report.story import Verdict, direction, spread, unfinished

_FIGURES = list(COLUMNS)[: list(COLUMNS).index("seconds_to_fit")]
_COSTS = [name for name in COLUMNS if name not in (*_FIGURES, "needs_to_serve")]


def comparison(files: RunFiles) -> dict[str, Any]:
    """Return what the section of a comparison shows; nothing if it is not finished.

    Returns:
        ``sets``: of each data set its ``name``, what it ``says``, and its ``lines`` as of
        ``comparison_line``; ``figures`` and ``costs``: titles of columns by name; ``chosen``: what
        was chosen for each row, in words; ``left_out``: rows without figures and the reasons; and
        ``free``: on what free answers were judged, or an empty text.
    """
    if files.comparison is None:
        return {}
    rows, yes = measured_rows(files), files.words[0]
    sets = []
    for name, about in files.comparison["datasets"].items():
        says = f"{about['n']:,} examples, {percent(about['positives'])} of them {yes}"
        lines = [comparison_line(row, name, about) for row in rows]
        sets.append({"name": name, "says": says, "lines": lines})
    general = rows[0]["side_effects"]["general_qa"]
    return {
        "sets": sets,
        "figures": {name: COLUMNS[name].title.replace("Yes", yes) for name in _FIGURES},
        "costs": {name: COLUMNS[name].title for name in _COSTS},
        "chosen": [_chosen(row["chosen"]) for row in rows],
        "left_out": [
            (row["name"], row["error"]) for row in files.comparison["rows"] if row["error"]
        ],
        "free": f"{general['n']:,} questions of {general['data']}" if general else "",
    }


def measured_rows(files: RunFiles) -> list[Row]:
    """Return the rows that have figures, the untouched model's first."""
    assert files.comparison is not None
    return [row for row in files.comparison["rows"] if not row["error"]]


def _chosen(chosen: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{name.replace('_', ' ')} {f'{value:.4g}' if isinstance(value, float) else value}"
        for name, value in chosen.items()
    )


def comparison_verdict(files: RunFiles) -> Verdict:
    """Return what a comparison comes to, by the first data set."""
    if files.comparison is None:
        done = len(list((files.folder / "compare").glob("*.json")))
        sentence = f"This comparison on {files.name} is not finished: {done} rows are done."
        return unfinished(sentence)
    tables, rows = list(files.comparison["datasets"]), measured_rows(files)
    sentence, *notes = (_best(files, rows, name) for name in tables)
    notes += _beyond_chance(rows, tables[0])
    failed = [row["name"] for row in files.comparison["rows"] if row["error"]]
    if failed:
        notes.append(f"Not to be had here: {', '.join(failed)}; the table says why.")
    return Verdict("Comparison", "plain", sentence, notes)


def _best(files: RunFiles, rows: Sequence[Row], name: str) -> str:
    """The row of highest accuracy on a data set, beside the untouched model."""
    found: list[Figure] = [tuple(row["datasets"][name]["figures"]["accuracy"]) for row in rows]
    best = max(range(len(rows)), key=lambda place: found[place][0])
    if best == 0:
        return (
            f"On {name} none of {len(rows)} rows is more accurate than the untouched "
            f"{files.name}: {spread(found[0])}."
        )
    return (
        f"On {name} the most accurate of {len(rows)} rows is {rows[best]['name']}: "
        f"{spread(found[best])}, the untouched {files.name} {spread(found[0])}."
    )


def _beyond_chance(rows: Sequence[Row], name: str) -> Iterator[str]:
    """Name the rows whose change of accuracy has an interval above or below 0."""
    changes = {
        row["name"]: direction(tuple(row["datasets"][name]["figures"]["accuracy_change"]))
        for row in rows[1:]
    }
    for way, says in ((1, "More"), (-1, "Less")):
        found = [row for row, change in changes.items() if change == way]
        if found:
            yield f"{says} accurate on {name} beyond its interval: {', '.join(found)}."
