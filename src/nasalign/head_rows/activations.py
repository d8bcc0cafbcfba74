"""Where the activations that replay keeps are held: on the device, in main memory, or in a file.

The first place that has room takes them, the fastest first. On a CPU the device is main memory.
"""

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch import Tensor

from nasalign.models import processes
from nasalign.models.memory import is_out_of_memory

MIB, GIB = 2**20, 2**30
DEVICE_SHARE = 0.25
"""Share of what is free on the device that may be taken unless a budget is given."""
MEMORY_SHARE = 0.5
"""The same of main memory beside an accelerator."""
DISK_SHARE = 0.5
"""The same of the disk with the folder for temporary files."""


@dataclass
class Place:
    """A place that holds activations.

    Attributes:
        name: what it is, such as ``"cuda:0"`` or ``"a file"``.
        limit: bytes it may hold.
        make: makes an uninitialised tensor there.
        held: bytes it holds.
        most: the most it has held.
    """

    name: str
    limit: int
    make: Callable[[tuple[int, int], torch.dtype], Tensor]
    held: int = 0
    most: int = 0

    def take(self, size: int) -> None:
        """Counts bytes in."""
        self.held += size
        self.most = max(self.most, self.held)

    def leave(self, size: int) -> None:
        """Counts bytes out."""
        self.held -= size


class StoredRows:
    """Rows [N, hidden] that have a place; it is given back with the last reference to this."""

    def __init__(self, rows: Tensor, place: Place) -> None:
        self.rows = rows
        place.take(rows.nbytes)
        weakref.finalize(self, place.leave, rows.nbytes)

    def on(self, device: torch.device, spans: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Returns some spans of the rows, each [end - start, hidden], on a device."""
        soon = self.rows.is_pinned()
        return [self.rows[start:end].to(device, non_blocking=soon) for start, end in spans]


class ActivationMemory:
    """Holds activations in the nearest place that has room.

    Args:
        budget: bytes on the device at most; a share of what is free there unless given. What
            exceeds it goes to main memory (pinned, if there is an accelerator), then to a file
            that is mapped into memory and vanishes with the process.
    """

    def __init__(self, budget: int | None = None) -> None:
        self.budget = budget
        self._places: dict[torch.device, list[Place]] = {}

    def keep(
        self, rows: int, width: int, dtype: torch.dtype, device: torch.device
    ) -> StoredRows | None:
        """Returns uninitialised rows [rows, width] near a device; None if no place has room."""
        size = rows * width * dtype.itemsize
        for place in self.places(device):
            if place.held + size <= place.limit:
                try:
                    return StoredRows(place.make((rows, width), dtype), place)
                except (OSError, RuntimeError, MemoryError) as error:
                    if not isinstance(error, OSError) and not is_out_of_memory(error):
                        raise
                    place.limit = place.held  # it has filled since, and is not tried again
        return None

    def places(self, device: torch.device) -> list[Place]:
        """Returns the places for activations of a device, the fastest first."""
        if device not in self._places:
            self._places[device] = self._places_of(device)
        return self._places[device]

    def describe(self) -> dict[str, dict[str, int]]:
        """Returns the limit of each place and the most it has held, in bytes."""
        return {
            place.name: {"limit": place.limit, "most_held": place.most}
            for places in self._places.values()
            for place in places
        }

    def _places_of(self, device: torch.device) -> list[Place]:
        def on_device(shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
            return torch.empty(shape, dtype=dtype, device=device)

        def pinned(shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
            return torch.empty(shape, dtype=dtype, pin_memory=True)

        limit = int(DEVICE_SHARE * _free(device)) if self.budget is None else self.budget
        name = "main memory" if device.type == "cpu" else str(device)
        places = [Place(name, limit, on_device)]
        if device.type == "cuda":
            half = int(MEMORY_SHARE * _free(torch.device("cpu")))
            places.append(Place("pinned main memory", half, pinned))
        disk = int(DISK_SHARE * shutil.disk_usage(tempfile.gettempdir()).free)
        places.append(Place("a file", disk // processes.count(), _mapped))
        return places


def _free(device: torch.device) -> int:
    """Bytes that are free for this process."""
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + idle
    return psutil.virtual_memory().available // processes.count()


def _mapped(shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """A tensor whose bytes are in a file that nothing else can see."""
    with tempfile.NamedTemporaryFile(prefix="nasalign-", delete=False) as file:
        path = Path(file.name)
    count = shape[0] * shape[1]
    try:
        if hasattr(os, "posix_fallocate"):  # a write to a mapped hole of a full disk would kill us
            with path.open("rb+") as file:
                os.posix_fallocate(file.fileno(), 0, count * dtype.itemsize)
        flat = torch.from_file(str(path), shared=True, size=count, dtype=dtype)
    finally:
        with suppress(PermissionError):  # Windows keeps a file that is mapped
            path.unlink()
    return flat.view(shape)
