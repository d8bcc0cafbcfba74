"""The check for GPUs runs on a CPU with small sizes, so that no error of its own waits there."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import gpu_check
from gpu_stages import table

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu_check.py"
STAGES = ("parity", "llama3-8b")
LONG = ("quant", "embedded", "compile")


def check(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--tiny", "--out", str(out)]
    return subprocess.run([*command, *options], capture_output=True, text=True, check=False)


def passed(out: Path, stages: tuple[str, ...]) -> tuple[list[dict[str, Any]], str]:
    """The records of stages that must pass, and what is printed."""
    chosen = [part for stage in stages for part in ("--stage", stage)]
    done = check(out, "--seconds", "900", *chosen)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return records(out), done.stdout


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], str]:
    """Of the short stages."""
    return passed(tmp_path_factory.mktemp("check") / "gpu.jsonl", STAGES)


def of(stage: str, found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["part"]: one for one in found if one["stage"] == stage and "part" in one}


@pytest.mark.long
def test_every_stage_passes_and_parity_has_a_record_a_test(
    whole: tuple[list[dict[str, Any]], str],
) -> None:
    found, printed = whole
    ends = [(record["stage"], record["code"]) for record in found if record.get("part") == "end"]
    assert ends == [(stage, 0) for stage in STAGES]
    assert "\n| parity | passed |" in printed
    tests = [record for record in found if record["stage"] == "parity" and "test" in record]
    assert len(tests) > 5
    assert all(record["outcome"] in ("passed", "skipped") for record in tests)
    assert of("parity", found)["summary"]["passed"] > 5
    assert any("max_difference" in record for record in tests)


@pytest.mark.long
def test_a_shape_is_timed_against_the_plain_loops(whole: tuple[list[dict[str, Any]], str]) -> None:
    parts = of("llama3-8b", whole[0])
    assert {"model", "scoring", "probing", "free answers", "nasa", "nasa+"} < set(parts)
    assert parts["scoring"]["same_logits"] is True
    assert parts["nasa+"]["speed_up"] > 0
    estimate = parts["estimate"]
    assert 0 < estimate["minutes_nasa_likely"] < estimate["minutes_nasa_most"]


@pytest.mark.long
def test_weights_are_quantised_the_whole_job_decides_alike_and_layers_are_compiled(
    tmp_path: Path,
) -> None:
    found, _ = passed(tmp_path / "gpu.jsonl", LONG)
    parts = of("quant", found)
    assert parts["bfloat16"]["cosine"] == pytest.approx(1.0, abs=1e-4)
    assert parts["8bit"]["cosine"] > 0.99
    assert {"eager", "compile"} < set(of("compile", found))
    compared = of("embedded", found)["comparison"]
    assert compared["same_decisions"] is True
    assert len(compared["float32"]["tuned"]) == 3


@pytest.mark.long
def test_a_stage_that_is_cut_short_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_check, "LIMITS", {"quant": 0.5, "compile": 0.5})
    monkeypatch.setattr(
        sys, "argv", ["gpu_check", "--device", "cpu", "--tiny", "--out", str(tmp_path / "out")]
    )
    with pytest.raises(SystemExit) as ended:
        gpu_check.main()
    assert ended.value.code == 2
    ends = [record for record in records(tmp_path / "out") if record.get("part") == "end"]
    assert [(end["stage"], end["code"]) for end in ends] == [("quant", None), ("compile", None)]
    assert all(0.5 <= end["seconds"] < 30 for end in ends)


@pytest.mark.long
def test_a_failed_stage_is_said(tmp_path: Path) -> None:
    done = check(tmp_path / "out", "--stage", "quant", "--seconds", "5")
    [_, end] = records(tmp_path / "out")
    assert "skipped" in end
    assert done.returncode == 0


@pytest.mark.long
def test_the_tables_of_the_readme_are_those_of_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: tuple[list[dict[str, Any]], str]
) -> None:
    text = table.README.read_text()
    assert f"{table.BEGIN}\n{table.section()}\n{table.END}" in text
    readme, source = tmp_path / "README.md", tmp_path / "new.jsonl"
    readme.write_text(text)
    source.write_text("\n".join(map(json.dumps, whole[0])))
    monkeypatch.setattr(table, "README", readme)
    monkeypatch.setattr(table, "RECORDS", tmp_path / "gpu_check.jsonl")
    table.write(source)
    fresh = readme.read_text()
    assert f"{table.BEGIN}\n{table.section()}\n{table.END}" in fresh
    assert "| llama3-8b | passed |" in fresh
    assert table.EMPTY not in fresh
    assert fresh.partition(table.END)[2] == text.partition(table.END)[2]
