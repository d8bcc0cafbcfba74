"""Reducing an adapter to one low rank, for servers that cap the rank and want it uniform."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from nasalign.adapters.adapter_checks import Changes
from nasalign.adapters.adapter_file import Reduction, read_adapter, write_adapter
from nasalign.errors import NasAlignError


def reduce_adapter(source: Path, target: Path, rank: int, base_model: str = "") -> Reduction:
    """Writes the best approximation of an exact adapter whose modules all have the same rank.

    The change of each module is cut after its largest singular values (Eckart and Young); a module
    of fewer rows is filled up with zeros. The result is a plain PEFT adapter without patterns.

    Args:
        source: folder of an adapter that ``Adapter.save`` wrote.
        target: folder to write.
        rank: at most this; less where the exact adapter needs no more.
        base_model: the name by which the base is loaded; as the source says unless given.

    Raises:
        ModelError: there is no adapter, it is broken, or nasalign did not write it.
        NasAlignError: it is reduced already.
    """
    changes: Changes = {}
    errors: dict[str, float] = {}
    lost = whole = 0.0
    adapter = read_adapter(source)
    origin, exact = adapter.origin, adapter.changes
    if origin.reduction:
        raise NasAlignError(
            f"The adapter {source} is reduced to rank {origin.reduction.rank} already; reduce "
            "the exact one of the run."
        )
    rank = min(rank, max(len(deltas) for deltas, _ in exact.values()))
    for module, (deltas, selector) in exact.items():
        left, right = _factors(deltas, rank)
        changes[module] = right, selector @ left
        missing = float((deltas.double() - left.double() @ right.double()).square().sum())
        size = float(deltas.double().square().sum())
        errors[module] = (missing / size) ** 0.5
        lost, whole = lost + missing, whole + size
    reduction = Reduction(rank, (lost / whole) ** 0.5, errors, adapter.rows)
    made_from = replace(origin, reduction=reduction)
    write_adapter(target, changes, made_from, base_model or adapter.base_model)
    return reduction


def _factors(deltas: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Two float32 matrices [r, rank] and [rank, in] whose product is nearest to deltas [r, in]."""
    left, size, right = torch.linalg.svd(deltas.double(), full_matrices=False)
    kept = min(rank, len(size))
    root = size[:kept].sqrt()  # on both sides, so that half precision serves both alike
    first, second = deltas.new_zeros(len(deltas), rank), deltas.new_zeros(rank, deltas.shape[1])
    first[:, :kept] = left[:, :kept] * root
    second[:kept] = root[:, None] * right[:kept]
    return first, second
