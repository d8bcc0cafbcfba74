"""Storage for the activations of replay: the device, main memory, or a file.

The fastest place with room takes them. On a CPU the device is main memory.
"""

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import torch
from torch import Tensor

from nasalign.models import processes
from nasalign.models.memory import is_out_of_memory

MIB, GIB = 2**20, 2**30
# Shares of the free space that may be taken unless a budget is given:
DEVICE_SHARE = 0.25
MEMORY_SHARE = 0.5  # of main memory beside an accelerator
DISK_SHARE = 0.5  # of the disk with the folder for temporary files


@dataclass
class Place:
    """A place that holds activations."""

    name: str  # such as "cuda:0" or "a file"
    limit: int  # bytes it may hold
    make: Callable[..., Tensor]  # an uninitialised tensor there, of a shape [N, hidden] and dtype
    held: int = 0
    most: int = 0  # the most it has held

    def add(self, size: int) -> None:
        """Count bytes that are held now; negative when they are given back."""
        self.held += size
        self.most = max(self.most, self.held)


class StoredRows:
    """Rows [N, hidden] in a place, whose bytes are given back with the last reference to this."""

    def __init__(self, rows: Tensor, place: Place) -> None:
        self.rows = rows
        place.add(rows.nbytes)
        weakref.finalize(self, place.add, -rows.nbytes)

    def on(self, device: torch.device, spans: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Return spans of the rows, each [end - start, hidden], on a device."""
        pinned = self.rows.is_pinned()  # else a copy waits anyway
        return [self.rows[start:end].to(device, non_blocking=pinned) for start, end in spans]


class ActivationMemory:
    """Stores activations in the fastest place with room.

    ``budget`` bytes, or a share of what is free, are taken on the device. Then come main memory
    (pinned, beside an accelerator) and an unnamed file that is mapped into memory.
    """

    def __init__(self, budget: int | None = None) -> None:
        self.budget = budget
        self._places: dict[torch.device, list[Place]] = {}

    def keep(
        self, rows: int, width: int, dtype: torch.dtype, device: torch.device
    ) -> StoredRows | None:
        """Return uninitialised rows [rows, width] near a device; None if no place has room."""
        size = rows * width * dtype.itemsize
        for place in self.places(device):
            if place.held + size <= place.limit:
                try:
                    return StoredRows(place.make((rows, width), dtype=dtype), place)
                except (OSError, RuntimeError, MemoryError) as error:
                    if not isinstance(error, OSError) and not is_out_of_memory(error):
                        raise
                    place.limit = place.held  # others have filled it; not tried again
        return None

    def places(self, device: torch.device) -> list[Place]:
        """Return the places for activations of a device, the fastest first."""
        if device in self._places:
            return self._places[device]

        limit = int(DEVICE_SHARE * _free(device)) if self.budget is None else self.budget
        name = "main memory" if device.type == "cpu" else str(device)
        found = [Place(name, limit, partial(torch.empty, device=device))]
        if device.type == "cuda":
            half = int(MEMORY_SHARE * _free(torch.device("cpu")))
            pinned = partial(torch.empty, pin_memory=True)
            found.append(Place("pinned main memory", half, pinned))
        disk = int(DISK_SHARE * shutil.disk_usage(tempfile.gettempdir()).free)
        found.append(Place("a file", disk // processes.count(), _mapped))
        return self._places.setdefault(device, found)

    def describe(self) -> dict[str, dict[str, int]]:
        """Return the limit of each place and the most it has held, in bytes."""
        return {
            place.name: {"limit": place.limit, "most_held": place.most}
            for places in self._places.values()
            for place in places
        }


def _free(device: torch.device) -> int:
    """Bytes that are free for this process."""
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + idle
    return psutil.virtual_memory().available // processes.count()


def _mapped(shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """A tensor whose bytes are in a file without a name, which vanishes with the process."""
    with tempfile.NamedTemporaryFile(prefix="nasalign-", delete=False) as file:
        path = Path(file.name)
    count = shape[0] * shape[1]
    try:
        if hasattr(os, "posix_fallocate"):  # else writing to the mapping of a full disk is SIGBUS
            with path.open("rb+") as file:
                os.posix_fallocate(file.fileno(), 0, count * dtype.itemsize)
        flat = torch.from_file(str(path), shared=True, size=count, dtype=dtype)
    finally:
        with suppress(PermissionError):  # Windows keeps a file that is mapped
            path.unlink()
    return flat.view(shape)
