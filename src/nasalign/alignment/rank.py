"""Reducing an adapter to one low rank, for servers that cap the rank and want it uniform."""

from pathlib import Path

import torch
from torch import Tensor

from nasalign.alignment.adapter_file import (
    FILE,
    PREFIX,
    Origin,
    Reduction,
    modules_of,
    open_adapter,
)
from nasalign.errors import NasAlignError
from nasalign.files import read_json, write_json, write_tensors


def reduce_adapter(source: Path, target: Path, rank: int) -> Reduction:
    """Writes the best approximation of an exact adapter whose modules all have the same rank.

    The change of each module is cut after its largest singular values (Eckart and Young); a module
    of fewer rows is filled up with zeros. The result is a plain PEFT adapter without patterns.

    Args:
        source: folder of an adapter that ``Adapter.save`` wrote.
        target: folder to write; made if it is not there.
        rank: at most this; less where the exact adapter needs no more.

    Raises:
        ModelError: there is no adapter, it is broken, or nasalign did not write it.
        NasAlignError: it is reduced already.
    """
    tensors: dict[str, Tensor] = {}
    errors: dict[str, float] = {}
    rows: dict[str, list[int]] = {}
    lost = whole = 0.0
    with open_adapter(source) as (file, origin):
        if origin.reduction:
            raise NasAlignError(
                f"The adapter {source} is reduced to rank {origin.reduction.rank} already; reduce "
                "the exact one of the run."
            )
        exact = {
            module: (file.get_tensor(name), file.get_tensor(name.replace("lora_A", "lora_B")))
            for module, name in modules_of(file).items()
        }
    rank = min(rank, max(len(deltas) for deltas, _ in exact.values()))
    for module, (deltas, selector) in exact.items():
        left, right = _factors(deltas, rank)
        rows[module] = selector.argmax(dim=0).tolist()
        tensors[f"{PREFIX}{module}.lora_A.weight"] = right
        tensors[f"{PREFIX}{module}.lora_B.weight"] = selector @ left
        missing = float((deltas.double() - left.double() @ right.double()).square().sum())
        size = float(deltas.double().square().sum())
        errors[module] = (missing / size) ** 0.5
        lost, whole = lost + missing, whole + size
    reduction = Reduction(rank, (lost / whole) ** 0.5, errors, rows)
    config = read_json(source / "adapter_config.json")
    config |= {"r": rank, "lora_alpha": rank, "rank_pattern": {}, "alpha_pattern": {}}
    target.mkdir(parents=True, exist_ok=True)
    write_json(target / "adapter_config.json", config)
    made_from = Origin(origin.base, origin.rows, origin.dtype, reduction)
    write_tensors(target / FILE, tensors, made_from.metadata())
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
