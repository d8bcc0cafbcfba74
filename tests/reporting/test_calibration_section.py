"""The report and the card show a calibration where a run has one, and nothing where it has none."""

from pathlib import Path

import pytest

from nasalign.io.files import read_json, write_json
from nasalign.reporting.report import report_html
from nasalign.reporting.report.charts import charts_of
from nasalign.reporting.report.data_sets import data_sets
from nasalign.reporting.report.run_folder import RunFiles
from run_folder import make_run, text_of

ERRORS = {
    "error": 0.412,
    "error_interval": [0.4, 0.42],
    "calibrated_error": 0.038,
    "calibrated_error_interval": [0.02, 0.06],
}
FIT = {"slope": 0.731, "offset": -1.25, "n": 200, "datasets": {"facts": ERRORS}}


def calibrated(folder: Path, before: dict | None, after: dict | None) -> Path:
    """A run whose calibration has these sides."""
    metrics = read_json(make_run(folder) / "metrics.json")
    facts = {"data": "facts", "n": 200, "before": before, "after": after}
    write_json(folder / "metrics.json", metrics | {"calibration": facts})
    return folder


def test_the_section_has_the_fit_and_both_errors(tmp_path: Path) -> None:
    page = report_html(calibrated(tmp_path, None, FIT))
    text = text_of(page)
    assert "Calibrated probabilities" in text
    assert "fitted on 200 held-back examples of facts" in text
    assert "facts aligned 0.731 -1.250 0.412 0.400 to 0.420 0.038 0.020 to 0.060" in text
    assert "untouched 0." not in text
    assert 'data-chart="reliability-facts"' in page


@pytest.mark.parametrize("after", [FIT, None])
def test_the_diagram_has_a_curve_for_each_model(after: dict | None, tmp_path: Path) -> None:
    files = RunFiles.read(calibrated(tmp_path, FIT, after))
    chart = charts_of(files, data_sets(files))["reliability-facts"]
    marks = next(rows for rows in values_of(chart.spec) if "share" in rows[0])
    sides = {"before", "after"} | ({"after, calibrated"} if after else set())
    assert {mark["side"] for mark in marks} == sides
    assert sum(mark["examples"] for mark in marks if mark["side"] == "after") == 80
    raw, moved = (
        {mark["probability"] for mark in marks if mark["side"] == side}
        for side in ("after", "after, calibrated")
    )
    assert not raw & moved


def values_of(spec: dict) -> list[list[dict]]:
    """The inline data of a chart's layers, one after the other."""
    found = [layer["data"]["values"] for layer in spec["layer"] if "data" in layer]
    return found + ([spec["data"]["values"]] if "data" in spec else [])


@pytest.mark.parametrize("older", [True, False])
def test_a_run_without_one_has_no_section(older: bool, tmp_path: Path) -> None:
    folder = make_run(tmp_path) if older else calibrated(tmp_path, None, None)
    page = report_html(folder)
    assert "Calibrated probabilities" not in page
    assert "reliability-facts" not in page
