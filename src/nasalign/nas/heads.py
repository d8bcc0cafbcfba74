"""Selecting negative attention heads by their NAS (Eq. 2-4)."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

REFERENCE_HEADS = 1024
"""Heads of a model with 32 layers of 32 heads, from which counts for small models are scaled."""


class Head(NamedTuple):
    """An attention head and its single head NAS."""

    layer: int
    head: int
    nas: float


@dataclass(frozen=True)
class HeadCounts:
    """How many heads Eq. 2 (``k``) and Eq. 4 (``n``) take."""

    k: int
    n: int


STUDY = HeadCounts(k=200, n=100)
"""Counts of the studies in Section 3.2.2."""
ALIGNMENT = HeadCounts(k=100, n=30)
"""Counts of the alignment in Section 4.2."""


def head_counts(counts: HeadCounts, k: int | None, n: int | None, heads: int) -> HeadCounts:
    """Return k and n; one that is None is that of ``counts``, scaled down below 1,024 heads.

    The paper takes the same counts for models of 448 (Gemma-7B) to 1,024 heads, so only presets for
    small models leave them unset.
    """
    share = min(1.0, heads / REFERENCE_HEADS)
    return HeadCounts(
        k=k or max(1, round(counts.k * share)), n=n or max(1, round(counts.n * share))
    )


def single_head_nas(nas: Tensor) -> Tensor:
    """Return the mean over samples, NAS(X, l, h): [N, L, H] -> [L, H]."""
    return nas.mean(dim=0)


def model_nas(nas: Tensor) -> Tensor:
    """Return the sum over heads, NAS({x}, L, H): [N, L, H] -> [N]."""
    return nas.sum(dim=(1, 2))


def select_heads(
    nas: Tensor, *, k: int = ALIGNMENT.k, n: int = ALIGNMENT.n, consistency: float = 0.9
) -> list[Head]:
    """Return the negative attention heads of a sample set, by falling single head NAS (Eq. 2-4).

    The defaults are the paper's counts for alignment (Section 4.2), whatever the model's size.

    Args:
        nas: NAS of N samples by layer and head, [N, L, H], as ``score`` returns it.
        k: heads of highest NAS in each sample's list (Eq. 2); all heads if there are fewer.
        n: heads returned at most, those of highest single head NAS (Eq. 4).
        consistency: share of the N lists a head must be in (Eq. 3).

    Returns:
        At most n heads, each with its layer, its place in the layer and its single head NAS.

    Raises:
        ValueError: there is no sample, or a count is not positive.
    """
    samples, layers, heads = nas.shape
    if samples == 0 or k < 1 or n < 1:
        raise ValueError(f"cannot select {n} heads by lists of {k} from {samples} samples")
    flat = nas.reshape(samples, layers * heads)
    lists = flat.argsort(dim=1, descending=True, stable=True)[:, :k]
    appearances = torch.bincount(lists.flatten(), minlength=layers * heads)
    consistent = appearances >= consistency * samples
    mean = flat.mean(dim=0)
    order = mean.argsort(descending=True, stable=True)
    chosen = [int(index) for index in order if consistent[index]][:n]
    return [Head(index // heads, index % heads, float(mean[index])) for index in chosen]
