"""A map of single head NAS for notebooks; the report has one of its own, with its tuning."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from nasalign.extras import require
from nasalign.nas.heads import Head, places

_CELL = 14  # pixels of a head


def head_map(nas: Tensor, selected: Sequence[Head], kept: Sequence[tuple[int, int]]) -> Any:
    """Return an Altair chart of single head NAS, with the selected heads marked.

    Args:
        nas: single head NAS, [L, H]; NaN where no head is.
        selected: the heads that were selected.
        kept: layer and head of those whose rows stay changed.

    Raises:
        NasAlignError: the extra ``plots`` is not installed.
    """
    require("plots")
    import altair as alt

    chosen, layers, heads = {head[:2] for head in selected}, *nas.shape
    rows = [
        {
            "layer": layer,
            "head": head,
            "NAS": round(float(nas[layer, head]), 4),
            "fate": _fate((layer, head), chosen, kept),
        }
        for layer, head in places(nas)
    ]
    base = alt.Chart(alt.Data(values=rows), width=_CELL * layers, height=_CELL * heads).encode(
        x=alt.X("layer:O"), y=alt.Y("head:O"), tooltip=["layer:O", "head:O", "NAS:Q", "fate:N"]
    )
    scale = alt.Scale(scheme="blueorange", domainMid=0)
    cells = base.mark_rect().encode(color=alt.Color("NAS:Q", scale=scale))
    marked = base.mark_point(color="black", filled=False).transform_filter(
        alt.datum.fate != "not selected"
    )
    return cells + marked.encode(shape="fate:N")


def _fate(head: tuple[int, int], chosen: set[Any], kept: Sequence[tuple[int, int]]) -> str:
    if head in kept:
        return "kept"
    return "selected, not kept" if head in chosen else "not selected"
