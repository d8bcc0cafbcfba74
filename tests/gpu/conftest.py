"""The devices on which every test of this folder runs: the CPU, and a CUDA device where one is."""

from collections.abc import Callable

import pytest
import torch
from torch.nn.attention import SDPBackend
from transformers import PreTrainedTokenizerFast

from nasalign.data.records import BinaryExample
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder
from precision import CUDA_MARKS, name_of

WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=CUDA_MARKS)])
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture
def note(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Callable[..., None]:
    """Records figures of a test, with its parameters and device: a check of a GPU reads them."""
    for name, value in request.node.callspec.params.items():
        plain = name_of(value) if isinstance(value, torch.dtype | SDPBackend) else str(value)
        record_property({"name": "family"}.get(name, name), plain)

    def record(**found: object) -> None:
        for name, value in found.items():
            record_property(name, value)

    return record


@pytest.fixture
def prompts(tokenizer: PreTrainedTokenizerFast) -> list[BinaryPrompt]:
    """Eight prompts of unequal length."""
    builder = PromptBuilder(tokenizer)
    return [
        builder.binary(BinaryExample(f"What is {' '.join(WORDS[: count % 5 + 1])}?", True, word))
        for count, word in enumerate(WORDS)
    ]
