"""Reducing an adapter to one low rank, for servers that cap the rank and want it uniform."""

from dataclasses import replace
from pathlib import Path

import torch

from nasalign.adapters.adapter_checks import Changes, selector
from nasalign.adapters.adapter_file import Reduction, read_adapter, write_adapter
from nasalign.errors import NasAlignError

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as ``--max-lora-rank`` (``MaxLoRARanks`` of vllm/config/lora.py, 0.14 to 0.27).

It refuses an adapter of a higher rank, and pads one of a lower rank itself.
"""


def vllm_text(rank: int) -> str:
    """Return how vLLM serves an adapter of a rank, as a sentence."""
    least = next((one for one in VLLM_RANKS if one >= rank), None)
    if least is None:
        return (
            f"Its rank is {rank}, and vLLM takes at most {VLLM_RANKS[-1]}; for vLLM, export it "
            f"with --rank {VLLM_RANKS[-1]}, or as a whole checkpoint."
        )
    return f"Its rank is {rank}; vLLM serves it with --enable-lora --max-lora-rank {least}."


def reduce_adapter(source: Path, target: Path, rank: int, base_model: str = "") -> Reduction:
    """Write the best approximation of an exact adapter whose modules all have the same rank.

    The change of each module is cut after its largest singular values (Eckart and Young). PEFT's
    ``convert_to_lora`` takes them of the whole [out, in] change in float32: twelve times as long,
    and it leaves rounding errors in rows that the exact adapter does not touch.

    Args:
        source: folder of an adapter that ``Adapter.save`` wrote.
        target: folder to write.
        rank: maximum rank; lower where the exact adapter needs no more.
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
    if origin.lacking:
        raise NasAlignError(
            f"The adapter {source} is reduced to rank {origin.lacking.rank} already; reduce "
            "the exact one of the run."
        )
    # Of a change that was tuned at a low rank, which is its rank in any form.
    most = origin.reduction.rank if origin.reduction else rank
    sizes = (min(len(adapter.rows[module]), a.shape[1]) for module, (a, _) in exact.items())
    rank = min(rank, most, max(sizes))
    for module, (first, second) in exact.items():
        rows = torch.tensor(adapter.rows[module])
        chosen = selector(rows, len(second))
        wide = second[rows].double() @ first.double()
        u, size, v = torch.linalg.svd(wide, full_matrices=False)
        root = size[:rank].sqrt()  # on both sides, so that half precision serves both alike
        left, right = (u[:, :rank] * root).float(), (root[:, None] * v[:rank]).float()
        changes[module] = right, chosen @ left
        missing = float((wide - left.double() @ right.double()).square().sum())
        total = float(wide.square().sum())
        errors[module] = (missing / total) ** 0.5
        lost, whole = lost + missing, whole + total
    reduction = Reduction(rank, (lost / whole) ** 0.5, errors, adapter.rows)
    made_from = replace(origin, reduction=reduction)
    write_adapter(target, changes, made_from, base_model or adapter.base_model)
    return reduction
