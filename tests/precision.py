"""Tiny models in a lower precision, what they should give, and how far off they may be.

The reference of a model in a lower precision is computed in float64 from its own rounded weights:
what is left is the rounding of its activations.
"""

import copy
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

import reference
import tiny
from padded import FIRST_ROW, NEGATIVE, POSITIVE, batch

# Of all families with any padding, the largest difference of NAS on a CPU (of logits, where no
# token is sent to another expert) is 1.7e-6 (1.2e-6), 0.036 (0.022) and 0.0059 (0.0027) of the
# largest value. Kernels of a device sum in another order, so about three times that, and more in
# float32, where fused kernels of CUDA multiply in three parts of lower precision.
WITHIN = {torch.float32: 2e-5, torch.bfloat16: 0.1, torch.float16: 0.02}
"""How far off NAS and logits may be, as shares of the largest value."""
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
CUDA_MARKS = (
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
)


@dataclass(frozen=True)
class Expected:
    """What a model should give, in float64 on the CPU: NAS [3, L, H], logits [T, vocabulary]."""

    nas: Tensor
    logits: list[Tensor]


@functools.cache
def model_on(family: str, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """A tiny model that tests share: none may change it."""
    model = tiny.build_model(family, dtype=dtype).requires_grad_(False)
    return model.to(device)


def own_model(family: str, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """The same for a test that changes it."""
    return copy.deepcopy(model_on(family, dtype, device))


@functools.cache
def expected(family: str, dtype: torch.dtype) -> Expected:
    """What the three samples of ``padded.batch`` should give, each without padding."""
    model = tiny.build_model(family, dtype=dtype).double()
    samples, _, _ = batch("left")
    places = zip(samples, POSITIVE, NEGATIVE, FIRST_ROW, strict=True)
    nas = torch.stack([reference.nas_of_sample(model, *place) for place in places])
    with torch.no_grad(), reference.as_precise(model):
        logits = [model(sample[None], use_cache=False).logits[0] for sample in samples]
    return Expected(nas, logits)


def differences(found: Tensor, wanted: Tensor) -> Tensor:
    """How far off values are, as shares of the largest wanted one; float64 on the CPU."""
    assert found.isfinite().all()
    return (found.cpu().double() - wanted).abs() / wanted.abs().max()


def name_of(value: torch.dtype | SDPBackend) -> str:
    return value.name.lower() if isinstance(value, SDPBackend) else str(value).split(".")[-1]


@contextmanager
def refusal(kernel: SDPBackend, said: list[str]) -> Iterator[None]:
    """Runs under one attention kernel; if torch refuses, notes what it says instead of raising."""
    try:
        with sdpa_kernel(kernel):
            yield
    except RuntimeError as error:
        said.append(str(error).splitlines()[0])


_FLASH, _MATH = SDPBackend.FLASH_ATTENTION, SDPBackend.MATH
_ON_CUDA = (_FLASH, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION, _MATH)
each_kernel = pytest.mark.parametrize(
    ("device", "kernel"),
    [
        *(
            pytest.param(torch.device("cpu"), one, id=f"cpu-{name_of(one)}")
            for one in (_FLASH, _MATH)
        ),
        *(
            pytest.param(torch.device("cuda"), one, id=f"cuda-{name_of(one)}", marks=CUDA_MARKS)
            for one in _ON_CUDA
        ),
    ],
)
"""Parametrises a test by ``device`` and each attention kernel that it may have, ``kernel``."""
