"""The table of all rows, from a comparison that was run."""

from pathlib import Path

import pytest

import study
from comparison_folder import ROWS, make_comparison
from nasalign.io.files import read_json


def test_each_row_that_was_measured_stands_in_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_comparison(tmp_path / "run")
    study.show_rows(folder)
    head, _, *lines = capsys.readouterr().out.splitlines()
    cells = {line.split("|")[1].strip(): [one.strip() for one in line.split("|")] for line in lines}
    assert list(cells) == [row[0] for row in ROWS]
    assert all(len(own) == len(head.split("|")) for own in cells.values())
    measured = {row["name"]: row for row in read_json(folder / "comparison.json")["rows"]}
    trained = cells["lora-all"]
    accuracy, low, high = measured["lora-all"]["datasets"]["facts"]["figures"]["accuracy"]
    assert trained[2] == f"{accuracy:.3f} ({low:.2f} to {high:.2f})"
    assert trained[6] == "3e-4, 2"
    assert cells["steering"][6] == ""
