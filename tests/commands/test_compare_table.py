"""The CSV file of a comparison, what fitting costs, and the rows that are ours."""

import csv
import io
import json
import time
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

import tiny
from comparison_folder import REASON, make_comparison
from nasalign.reporting.comparison_table import as_csv
from nasalign.rivals.cost import measuring, timing


def test_a_line_a_row_and_data_set(tmp_path: Path) -> None:
    names = ("@sum(1)", "facts, the second")
    folder = make_comparison(tmp_path / "run", names=names)
    content = json.loads((folder / "comparison.json").read_text())
    lines = list(csv.DictReader(io.StringIO(as_csv(content))))
    assert len(lines) == 2 * 9
    assert [line["data"] for line in lines] == ["'@sum(1)"] * 9 + ["facts, the second"] * 9
    for line, row in zip(lines[9:], content["rows"], strict=True):
        assert line["row"] == row["name"]
        if row["error"]:
            assert (line["error"], line["accuracy"], line["seconds_to_fit"]) == (REASON, "", "")
            continue
        figures = row["datasets"]["facts, the second"]["figures"]
        for name, figure in figures.items():
            found = [line[f"{name}{end}"] for end in ("", "_low", "_high")]
            expected = (
                [""] * 3
                if figure is None
                else ["" if value is None else str(value) for value in figure]
            )
            assert found == expected, name
        assert line["general_qa"] == str(row["side_effects"]["general_qa"]["after"])
        assert float(line["general_qa_change_low"]) == -0.03
        assert line["kl"] == str(row["side_effects"]["kl"]["mean"])
        assert line["needs_logits"] == str(row["logits"])
        assert line["trained_parameters"] == str(row["parameters"])
    lora = next(line for line in lines if line["row"] == "lora-all")
    assert lora["memory_to_fit_mib"] == "320.0"
    assert json.loads(lora["chosen"])["epochs"] == 2


@pytest.fixture
def model() -> PreTrainedModel:
    return tiny.build_model("llama")


def test_seconds_and_memory(model: PreTrainedModel) -> None:
    with measuring(model) as cost:
        block = torch.ones(64 * 2**20 // 4)  # 64 MiB, written to
        time.sleep(0.06)
        del block
    assert 0.06 <= cost.seconds < 2
    assert 60 * 2**20 < cost.memory < 200 * 2**20
    with measuring(model) as little:
        pass
    assert little.memory < 20 * 2**20


def test_the_seconds_of_what_fails_are_known(model: PreTrainedModel) -> None:
    def fail() -> None:
        time.sleep(0.02)
        raise KeyError

    with timing(model) as cost, pytest.raises(KeyError):
        fail()
    assert cost.seconds >= 0.02


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_memory_of_a_device(model: PreTrainedModel) -> None:
    model.to("cuda")
    with measuring(model) as cost:
        block = torch.ones(64 * 2**20 // 4, device="cuda")
        del block
    assert cost.memory == pytest.approx(64 * 2**20, rel=0.05)
