"""The attention kernels that PyTorch may choose from."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel


@contextmanager
def quick_kernels(model: PreTrainedModel) -> Iterator[None]:
    """Disable cuDNN's attention on a GPU.

    It makes a plan for each new length and batch size, a fifth of a second on an H200, and nearly
    every batch here is new; the other fused kernels make none (``benchmarks/README.md``).
    """
    if model.device.type != "cuda":
        yield
        return
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):
        yield
