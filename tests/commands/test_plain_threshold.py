"""The plain threshold parts the labels of the held-back examples."""

from pathlib import Path

import pytest
import torch

from nasalign.commands.plain_threshold import fit_threshold
from nasalign.data.records import BinaryExample
from nasalign.io.files import read_json
from nasalign.run import Run

EXAMPLES = [BinaryExample(f"Is it {n}?", n >= 6) for n in range(10)]
ODDS = torch.tensor([0.01 * 1.5**n / 0.5 for n in range(10)], dtype=torch.float64).log()


def test_it_lies_between_the_labels(tmp_path: Path) -> None:
    fit_threshold(Run(tmp_path), ODDS, EXAMPLES)
    found = read_json(tmp_path / "threshold.json")
    assert found["n"] == 10
    # Between the examples 5 and 6, of P(Yes) 0.076 and 0.114 beside 0.5.
    assert found["value"] == pytest.approx(torch.tensor(0.01 * 1.5**5.5 / 0.5).log().item())


def test_without_examples_there_is_none(tmp_path: Path) -> None:
    fit_threshold(Run(tmp_path), torch.zeros(0), [])
    assert read_json(tmp_path / "threshold.json") == {}
