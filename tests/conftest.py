"""Fixtures for every test: tiny models and tokenizers, no network, one seed."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Read once, when huggingface_hub and transformers are imported: they must be set before that.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Of programs that tests start too: two processes with two threads each wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["NASALIGN_RESULTS"] = "off"  # a test asks its model itself

import pytest

import browsing
import tiny

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


def pytest_collection_finish(session: pytest.Session) -> None:
    """What depends on the packages that the collected tests have imported; none is imported here.

    The plugin of Hypothesis would import Hypothesis for its summary, though no test uses it.
    """
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)  # models are too small for more, and pytest-xdist runs several
    plugins = session.config.pluginmanager
    if "hypothesis" not in sys.modules and plugins.has_plugin("hypothesispytest"):
        plugins.unregister(name="hypothesispytest")


@pytest.fixture(autouse=True)
def seed() -> None:
    """Start every test from the same global random state."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with BOS and a chat template."""
    return tiny.build_tokenizer()


@pytest.fixture
def llama(tokenizer: PreTrainedTokenizerFast) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A tiny Llama in float32 and its tokenizer, both the test's own to change."""
    return tiny.build_model("llama"), tokenizer


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny Llama and its tokenizer, which no test may change."""
    return tiny.save(tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of that folder, the test's own to break."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.fixture
def snapshot(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the model ``owner/name`` in a cache of the hub; its name is its revision."""
    import huggingface_hub.constants

    entry, revision = tmp_path / "models--owner--name", "0123456789abcdef" * 2 + "01234567"
    shutil.copytree(saved, entry / "snapshots" / revision)
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text(revision)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return entry / "snapshots" / revision


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser that the tests of a file share; while it runs, no other loop of asyncio can."""
    with browsing.started() as browser:
        yield browser


@pytest.fixture(params=list(tiny.FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    """The name of every family in turn, for `tiny.build_model`."""
    return str(request.param)
