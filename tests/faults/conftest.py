"""A small run, whole and halfway: what the faults are done to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cases import DENIES, case
from fault_tools import Stop, invoke
from nasalign.commands import align

SETTINGS = ("epochs=2", "n=3", "k=10", "learning_rate=1e-3", "bootstrap_samples=20", "rho=-100")
SETTINGS += ("answer_tokens=4", "sides=both", "halting_share=1.0", "tuning_batch_size=8")
SETTINGS += ("side_effect_questions=4",)


@pytest.fixture(scope="session")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """An alignment of a tiny model that denies what it says; without its --out."""
    model, data = case(tmp_path_factory.mktemp("case"), DENIES, questions=40)
    sets = [part for setting in SETTINGS for part in ("--set", setting)]
    return ["align", str(model), "--data", str(data), *sets]


@pytest.fixture(scope="session")
def undisturbed(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What it leaves when nothing happens."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    result = invoke(*command, "--out", folder)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="session")
def stopped(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What it leaves when it is killed after its side effects were measured."""
    folder = tmp_path_factory.mktemp("stopped") / "run"

    def stop(*_: object) -> None:
        raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(align, "record_attention", stop)
        assert isinstance(invoke(*command, "--out", folder).exception, Stop)
    return folder


@pytest.fixture
def halfway(stopped: Path, tmp_path: Path) -> Path:
    """The same, the test's own to break."""
    shutil.copytree(stopped, tmp_path / "run")
    return tmp_path / "run"
