"""Fakes of a full memory: allocations above a size fail, or the one of a certain place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

MESSAGE = "CUDA out of memory. Tried to allocate 2.00 GiB."


class Limit(TorchDispatchMode):
    """Lets no operation make a tensor of more entries than a limit; a context manager.

    Args:
        entries: that a new tensor may have.

    Attributes:
        refused: how many were not made.
        most: entries of the largest that was made.
    """

    def __init__(self, entries: float) -> None:
        super().__init__()
        self.entries, self.refused, self.most = entries, 0, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        there = {tensor.untyped_storage().data_ptr() for tensor in tensors((args, kwargs))}
        for tensor in tensors(output):
            if tensor.untyped_storage().data_ptr() not in there:  # no view, nor in place
                if tensor.numel() > self.entries:
                    self.refused += 1
                    raise torch.OutOfMemoryError(MESSAGE)
                self.most = max(self.most, tensor.numel())
        return output


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


def tensors(tree: Any) -> Iterator[Tensor]:
    """The tensors among arguments or results."""
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))
