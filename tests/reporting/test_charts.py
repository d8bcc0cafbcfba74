"""Charts: one specification for the picture and the live chart, with the data of the run."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from nasalign.reporting.report.chart_style import Chart, vega_script
from nasalign.reporting.report.charts import (
    confidence_charts,
    gap_chart,
    metrics_chart,
    shifts_chart,
)
from nasalign.reporting.report.data_sets import data_sets
from nasalign.reporting.report.head_charts import head_chart, heads_chart, timeline_chart
from nasalign.reporting.report.run_folder import RunFiles
from nasalign.reporting.report.tuning import epochs
from run_folder import HEADS, LAYERS, begin_run, make_run


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> RunFiles:
    return RunFiles.read(make_run(tmp_path_factory.mktemp("charts") / "run", more=True))


def rows_of(chart: Chart) -> list[dict]:
    """The rows that a specification holds, of all its layers."""
    layers = [chart.spec, *chart.spec.get("layer", [])]
    return [row for layer in layers for row in layer.get("data", {}).get("values", [])]


def test_every_picture_takes_the_colour_of_the_page(files: RunFiles) -> None:
    sets, tuned = data_sets(files), epochs(files)
    charts = [
        metrics_chart(sets[0], ("Yes", "No")),
        gap_chart(sets),
        heads_chart(files),
        timeline_chart(tuned, "beta", "model NAS", 50.0),
        head_chart(tuned),
        shifts_chart(sets[0]),
        *confidence_charts(sets[0]).values(),
    ]
    for chart in charts:
        assert chart is not None
        assert chart.svg.startswith("<svg")
        assert 'fill="currentColor"' in chart.svg
        assert not re.search(r'fill="(#000|black|white|#fff)', chart.svg)
        assert chart.spec["width"] == "container"
        json.dumps(chart.spec, allow_nan=False)


def test_metrics_have_the_intervals_of_the_run(files: RunFiles) -> None:
    rows = rows_of(metrics_chart(data_sets(files)[0], ("True", "False")))
    after = next(row for row in rows if (row["metric"], row["side"]) == ("recall", "after"))
    told = files.metrics["facts"]["after"]
    assert after["value"] == pytest.approx(told["recall"])
    assert [after["low"], after["high"]] == pytest.approx(told["intervals"]["recall"])
    assert {"share of True"} == {row["metric"] for row in rows if "share" in row["metric"]}


def test_histograms_count_every_answer_once(files: RunFiles) -> None:
    data = data_sets(files)[0]
    charts = confidence_charts(data)
    assert set(charts) == {"TP", "FP", "TN", "FN"}
    for side in ("before", "after"):
        counted = sum(
            row["answers"]
            for chart in charts.values()
            for row in rows_of(chart)
            if row["side"] == side
        )
        assert counted == data.n


def test_map_of_heads_has_every_head_with_its_fate(files: RunFiles) -> None:
    chart = heads_chart(files)
    assert chart is not None
    rows = rows_of(chart)
    assert len(rows) == LAYERS * HEADS
    fate = {(row["layer"], row["head"]): row["fate"] for row in rows}
    assert fate[1, 2] == "kept"
    assert fate[2, 1] == "cancelled"
    assert fate[3, 0] == "not reached"
    assert fate[0, 0] == "not selected"
    assert {row["NAS"] for row in rows} >= {-3.0, 5.0}


def test_a_place_without_a_head_is_blank_and_said_to_be(files: RunFiles) -> None:
    nas = files.nas.copy()
    nas[1] = np.nan  # a layer without heads
    nas[0, -1] = np.nan
    chart = heads_chart(dataclasses.replace(files, nas=nas))
    shown = {(row["layer"], row["head"]) for row in rows_of(chart)}
    assert len(shown) == (LAYERS - 1) * HEADS - 1
    assert not shown & {(0, HEADS - 1), *((1, head) for head in range(HEADS))}
    assert "blank: no head with softmax attention over the prompt" in json.dumps(chart.spec)
    assert "blank" not in json.dumps(heads_chart(files).spec)
    axis = chart.spec["layer"][0]["encoding"]["x"]["scale"]["domain"]
    assert axis == [*range(LAYERS)]


def test_a_map_needs_a_probing_set(tmp_path: Path) -> None:
    begin_run(tmp_path)
    assert heads_chart(RunFiles.read(tmp_path)) is None


def test_lines_begin_before_the_first_epoch_and_a_limit_is_drawn(files: RunFiles) -> None:
    tuned = epochs(files)
    assert [row["at"] for row in tuned] == [0, 1, 2, 2, 3, 4]
    assert [row["epoch"] for row in tuned] == [0, 1, 2, 0, 1, 2]
    assert [row["beta"] for row in tuned] == [60, 61, 62, 60, 58, 57]
    with_limit = timeline_chart(tuned, "beta", "model NAS", 50.0)
    assert {"limit": 50.0} in rows_of(with_limit)
    assert not any("limit" in row for row in rows_of(timeline_chart(tuned, "beta", "NAS", None)))


def test_shifts_count_the_changed_answers(files: RunFiles) -> None:
    data = data_sets(files)[0]
    chart = shifts_chart(data)
    assert chart is not None
    changed = sum(old["verdict"] != new["verdict"] for old, new in data.pairs)
    rows = rows_of(chart)
    assert sum(row["answers"] for row in rows) == changed
    assert {row["now"] for row in rows if row["shift"] == "FN to TP"} == {"now right"}
    assert {row["now"] for row in rows if row["shift"] == "TN to FP"} == {"now wrong"}


def test_no_shift_no_chart(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", yes_after=0.05, kept=False)
    assert shifts_chart(data_sets(RunFiles.read(folder))[0]) is None


def test_the_script_can_stand_in_a_page() -> None:
    script = vega_script()
    assert "</script" not in script
    assert "<!--" not in script
    assert "window.vegaEmbed" in script
