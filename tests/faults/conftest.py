"""A small run, whole and halfway: what the faults are done to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cases import DENIES, case, sets
from fault_tools import SETTINGS, Stop, done, invoke
from nasalign.commands import align


@pytest.fixture(scope="session")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """An alignment of a tiny model that denies what it says; without its --out."""
    model, data = case(tmp_path_factory.mktemp("case"), DENIES, questions=40)
    return ["align", str(model), "--data", str(data), *sets(SETTINGS)]


@pytest.fixture(scope="session")
def undisturbed(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What it leaves when nothing happens."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    done(*command, "--out", folder)
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
def finished(undisturbed: Path, tmp_path: Path) -> Path:
    """A whole run, the test's own to break."""
    return Path(shutil.copytree(undisturbed, tmp_path / "run"))


@pytest.fixture
def halfway(stopped: Path, tmp_path: Path) -> Path:
    """One that was killed, the test's own to break."""
    return Path(shutil.copytree(stopped, tmp_path / "run"))
