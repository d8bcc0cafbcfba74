"""The model that tests of several commands ask."""

import pytest

import tiny
from cases import DENIES


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny model that denies what it says."""
    return str(tiny.save(tmp_path_factory.mktemp("denies") / "model", seed=DENIES))
