"""A tiny model and an adapter for it, for every test of the page."""

from pathlib import Path

import pytest

from tiny_pair import make_pair


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_pair(tmp_path_factory.mktemp("pair"))
