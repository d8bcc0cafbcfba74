"""What a piece of work takes: seconds, and memory beyond what was held before it."""

import ctypes
import gc
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch
from transformers import PreTrainedModel

_EVERY = 0.02  # seconds between two looks at the memory of the process


@dataclass
class Cost:
    """What a piece of work took.

    Attributes:
        seconds: on the clock.
        memory: bytes at its highest point beyond what was held before; of all CUDA devices of
            the model, or else of the process. 0 where it was not measured.
    """

    seconds: float = 0.0
    memory: int = 0


@contextmanager
def timing(model: PreTrainedModel) -> Iterator[Cost]:
    """Measure the seconds of what happens inside; they are there when it is left."""
    cost = Cost()
    start = time.perf_counter()
    try:
        yield cost
    finally:
        for device in _devices(model):
            torch.cuda.synchronize(device)
        cost.seconds = time.perf_counter() - start


@contextmanager
def measuring(model: PreTrainedModel) -> Iterator[Cost]:
    """Measure the seconds and the memory of what happens inside."""
    gc.collect()
    devices = _devices(model)
    held = Cost()
    with _on_devices(devices, held) if devices else _in_process(held), timing(model) as cost:
        yield cost
    cost.memory = held.memory


def _devices(model: PreTrainedModel) -> list[torch.device]:
    return sorted({one.device for one in model.parameters() if one.is_cuda}, key=str)


@contextmanager
def _on_devices(devices: list[torch.device], cost: Cost) -> Iterator[None]:
    for device in devices:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    before = {device: torch.cuda.memory_allocated(device) for device in devices}
    try:
        yield
    finally:
        cost.memory = sum(
            torch.cuda.max_memory_allocated(device) - held for device, held in before.items()
        )


@contextmanager
def _in_process(cost: Cost) -> Iterator[None]:
    """Look at the resident memory again and again, from a thread of its own."""
    _give_back()
    process = psutil.Process()
    before = highest = process.memory_info().rss
    over = threading.Event()

    def look() -> None:
        nonlocal highest
        while not over.wait(_EVERY):
            highest = max(highest, process.memory_info().rss)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        cost.memory = max(highest, process.memory_info().rss) - before


def _give_back() -> None:
    """Have the C library return what it holds free, which later work would use for nothing."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl has not
        if trim:
            trim(0)
