"""Fixtures for every test: tiny models and tokenizers, no network, one seed."""

from __future__ import annotations

import os

# Read once, when huggingface_hub and transformers are imported: they must be set before that.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Of programs that tests start too: two processes with two threads each wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import tiny

torch.set_num_threads(1)  # the models are too small for more, and pytest-xdist runs several


@pytest.fixture(autouse=True)
def seed() -> None:
    """Start every test from the same global random state."""
    torch.manual_seed(0)


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with BOS and a chat template."""
    return tiny.build_tokenizer()


@pytest.fixture
def llama(
    tokenizer: PreTrainedTokenizerFast,
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A tiny Llama in float32 and its tokenizer, both the test's own to change."""
    return tiny.build_model("llama"), tokenizer


@pytest.fixture(params=list(tiny.FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    """The name of every family in turn, for `tiny.build_model`."""
    return str(request.param)
