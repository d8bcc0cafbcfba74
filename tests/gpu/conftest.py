"""The devices on which every test of this folder runs: the CPU, and a CUDA device where one is."""

import pytest
import torch

from precision import CUDA_MARKS


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=CUDA_MARKS)])
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)
