"""What every stage is told."""

from dataclasses import dataclass
from typing import Any

import torch

Record = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where a stage runs and how large it is.

    Attributes:
        device: ``cuda`` or ``cpu``.
        tiny: small sizes, so that the code is tried where there is no GPU.
    """

    device: torch.device
    tiny: bool

    @property
    def on_cuda(self) -> bool:
        """Whether this is a GPU."""
        return self.device.type == "cuda"
