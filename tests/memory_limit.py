"""A fake of a full memory: one allocation fails."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

MESSAGE = "CUDA out of memory. Tried to allocate 2.00 GiB."


class Once(TorchDispatchMode):
    """Lets memory run out once, at a certain operation; a context manager.

    Args:
        place: of the operation among all.

    Attributes:
        count: operations so far that make a tensor.
    """

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place, self.count = place, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if not func._schema.is_mutable and not func.is_view:  # these take no memory
            self.count += 1
            if self.count == self.place:
                raise torch.OutOfMemoryError(MESSAGE)
        return func(*args, **(kwargs or {}))
