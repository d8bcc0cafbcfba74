"""Models are recorded alike under each attention kernel; what torch refuses it refuses without us.

On CUDA a kernel may refuse masks (flash), float32 (flash, cuDNN) or keys of groups
(memory-efficient). Soft-capping and sinks go by eager attention, under any of them.
"""

from collections.abc import Callable

import pytest
import torch
from torch.nn.attention import SDPBackend

from nasalign.nas.recorder import NasRecorder
from padded import batch
from precision import DTYPES, WITHIN, differences, each_kernel, expected, model_on, name_of, refusal

FAMILIES = ("llama", "qwen2", "mistral", "gemma3", "cohere2", "gemma2", "gpt_oss")
EAGER = ("gemma2", "gpt_oss")


@pytest.mark.parametrize("side", ["none", "left"])
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@each_kernel
def test_each_kernel_gives_the_reference(
    kernel: SDPBackend,
    dtype: torch.dtype,
    name: str,
    side: str,
    device: torch.device,
    note: Callable[..., None],
) -> None:
    model = model_on(name, dtype, device)
    samples, inputs, positions = batch(side)
    inputs = {key: one.to(device) for key, one in inputs.items()}
    alone: list[str] = []
    beside: list[str] = []
    with torch.no_grad(), refusal(kernel, alone):
        plain = model(**inputs).logits
    with torch.no_grad(), refusal(kernel, beside), NasRecorder(model) as recorder:
        recorder.expect(positions)
        recorded = model(**inputs).logits
    note(refused=bool(alone))
    assert alone == beside
    if alone:
        assert name not in EAGER
        return
    off = float(differences(recorder.nas, expected(name, dtype).nas[: len(samples)]).max())
    real = inputs["attention_mask"].bool()
    same = torch.equal(recorded[real], plain[real])
    note(max_difference=off, same_bytes=same)
    assert off < WITHIN[dtype]
    if not same and kernel == SDPBackend.CUDNN_ATTENTION:
        pytest.xfail("cuDNN may choose another plan where it also gives the logsumexp")
    assert same
