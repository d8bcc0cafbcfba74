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
    """Return the mean over samples, NAS(X, l, h): [N, L, H] -> [L, H]; NaN where no head is."""
    return nas.mean(dim=0)


def model_nas(nas: Tensor) -> Tensor:
    """Return the sum over heads, NAS({x}, L, H): [N, L, H] -> [N].

    Places without a head are NaN and add nothing; a head whose NAS cannot be computed is infinite
    (``NasRecorder``), and so is the sum then.
    """
    return nas.nansum(dim=(1, 2))


def places(nas: Tensor) -> list[tuple[int, int]]:
    """Return layer and head of each head in NAS by layer and head, [L, H] or [N, L, H]."""
    layout = nas if nas.dim() == 2 else nas[0]
    return [(layer, head) for layer, head in (~layout.isnan()).nonzero().tolist()]


def select_heads(
    nas: Tensor, *, k: int = ALIGNMENT.k, n: int = ALIGNMENT.n, consistency: float = 0.9
) -> list[Head]:
    """Return the negative attention heads of a sample set, by falling single head NAS (Eq. 2-4).

    The defaults are the paper's counts for alignment (Section 4.2), whatever the model's size.

    Args:
        nas: NAS of N samples by layer and head, [N, L, H], as ``score`` returns it; NaN where a
            layer has no such head.
        k: heads of highest NAS in each sample's list (Eq. 2); all heads if there are fewer.
        n: heads returned at most, those of highest single head NAS (Eq. 4).
        consistency: share of the N lists a head must be in (Eq. 3).

    Returns:
        At most n heads, each with its layer, its place in the layer and its single head NAS.

    Raises:
        ValueError: there is no sample, or a count is not positive.
    """
    samples = len(nas)
    if samples == 0 or k < 1 or n < 1:
        raise ValueError(f"cannot select {n} heads by lists of {k} from {samples} samples")
    known = places(nas)
    flat = _of_heads(nas, known)
    consistent = _appearances(flat, k) >= consistency * samples
    mean = flat.mean(dim=0)
    order = mean.argsort(descending=True, stable=True)
    chosen = [int(index) for index in order if consistent[index]][:n]
    return [Head(*known[index], float(mean[index])) for index in chosen]


def list_shares(nas: Tensor, k: int) -> Tensor:
    """Return the share of the samples in whose list of Eq. 2 each head is.

    Args:
        nas: of N samples, [N, L, H].
        k: heads in each sample's list.

    Returns:
        [L, H] float64; NaN where no head is.
    """
    known = places(nas)
    layers, heads = zip(*known, strict=True)
    shares = torch.full(nas.shape[1:], torch.nan, dtype=torch.float64)
    shares[layers, heads] = _appearances(_of_heads(nas, known), k).double() / len(nas)
    return shares


def _of_heads(nas: Tensor, known: list[tuple[int, int]]) -> Tensor:
    """NAS [N, L, H] without the places where no head is: [N, heads of the model]."""
    layers, heads = zip(*known, strict=True)
    return nas[:, layers, heads]


def _appearances(flat: Tensor, k: int) -> Tensor:
    """In how many samples' lists of k heads each head is; of [N, heads of the model]."""
    lists = flat.argsort(dim=1, descending=True, stable=True)[:, :k]
    return torch.bincount(lists.flatten(), minlength=flat.shape[1])
