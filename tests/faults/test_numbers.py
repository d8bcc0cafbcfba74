"""Numbers that are none, and a clock that jumps."""

from __future__ import annotations

import json
import math
import random
import re
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fault_tools import assert_same_run, invoke, refused
from nasalign.adapters.adapter import Adapter
from nasalign.errors import NasAlignError
from nasalign.evaluation import evaluation as evaluate
from nasalign.models.head_layouts import RowSlice

SOURCE = Path(__file__).parents[2] / "src" / "nasalign"


@pytest.mark.parametrize("method", ["nasa", "nasa+"])
def test_a_rate_that_blows_up_leaves_no_number_that_is_none(
    command: list[str], tmp_path: Path, method: str
) -> None:
    rates = ["--set", "learning_rate=1e30", "--set", "joint_learning_rate=1e30"]
    small = ["--set", "joint_epochs=1", "--set", "known_pairs=12"]
    result = invoke(*command, *rates, *small, "--method", method, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    if method == "nasa":
        rows = map(json.loads, (tmp_path / "run" / "tuning.jsonl").read_text().splitlines())
        fates = [row["cancelled"] for row in rows if row["record"] == "head"]
        assert any("not finite" in fate for fate in fates)
    for path in (tmp_path / "run").glob("adapter/*.safetensors"):
        assert all(tensor.isfinite().all() for tensor in load_file(path).values())
    assert (tmp_path / "run" / "report.html").exists()
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())["datasets"]["questions"]
    assert all(math.isfinite(metrics[side]["accuracy"]) for side in ("before", "after"))


def test_an_adapter_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    where = RowSlice("model.layers.0.self_attn.q_proj", 0, 2)
    after = torch.tensor([[1.0, torch.nan], [0.0, 0.0]])
    adapter = Adapter({where: torch.zeros(2, 2)}, {where: after}, {where.module: 4}, "print")
    with pytest.raises(NasAlignError, match=r"rows of model\.layers\.0.*are not finite"):
        adapter.save(tmp_path / "adapter", "model")
    assert list(tmp_path.iterdir()) == []


def test_probabilities_that_are_none_end_the_run(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = evaluate.score_as

    def overflown(*arguments: object, **more: object) -> object:
        scores = real(*arguments, **more)  # type: ignore[arg-type]
        scores.p_positive[0] = torch.nan
        return scores

    monkeypatch.setattr(evaluate, "score_as", overflown)
    sentence = refused(invoke(*command, "--out", tmp_path / "run"))
    assert "gives no probabilities on questions" in sentence
    assert not (tmp_path / "run" / "eval").exists()


def test_a_clock_that_jumps_changes_nothing(
    command: list[str], undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, real = random.Random(0), time.time

    def jumping() -> float:
        return real() + rng.choice((-86400.0, 0.0, 86400.0))

    monkeypatch.setattr(time, "time", jumping)
    result = invoke(*command, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    timings = json.loads((tmp_path / "run" / "run.json").read_text())["timings"]
    assert all(0 <= seconds < 3600 for seconds in timings.values()), timings
    assert_same_run(undisturbed, tmp_path / "run")


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.name)
def test_nothing_is_timed_by_a_clock_that_can_jump(path: Path) -> None:
    if path.name == "chat_api.py":  # OpenAI's field ``created`` is the time of the day
        return
    assert not re.search(r"time\.time\(|datetime\.(now|utcnow|today)|date\.today", path.read_text())
