"""The map of single head NAS, which the report and notebooks show."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from nasalign.nas.heads import places

TO_YES, TO_NO = "#009E73", "#B5449A"
FAINT = "rgba(128,128,128,0.12)"
PAGE = "currentColor"  # of text and lines: that of the page, light or dark
MARKS = {"kept": "circle", "cancelled": "cross", "not reached": "square"}
"""The mark of a selected head by what became of it."""


def head_map(
    nas: Tensor,
    fates: Mapping[tuple[int, int], str],
    words: tuple[str, str] = ("Yes", "No"),
    why: Mapping[tuple[int, int], str] | None = None,
) -> Any:
    """Return an Altair chart of single head NAS, with the selected heads marked.

    Args:
        nas: single head NAS, [L, H]; NaN where no head is.
        fates: what became of each selected head, by layer and head: a key of ``MARKS``.
        words: the answer words.
        why: the reason why a head was not selected, by layer and head.
    """
    import altair as alt  # of an extra

    rows = [
        {"layer": layer, "head": head, "NAS": round(float(nas[layer, head]), 4)}
        | {"fate": fates.get((layer, head), "not selected")}
        | ({} if why is None else {"why": why.get((layer, head), "")})
        for layer, head in places(nas)
    ]
    layers, heads = nas.shape
    told: list[Any] = ["layer:O", "head:O", alt.Tooltip("NAS:Q", format=".3f"), "fate:N"]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("layer:O", axis=_every(layers), scale=alt.Scale(domain=[*range(layers)])),
        y=alt.Y("head:O", axis=_every(heads), scale=alt.Scale(domain=[*range(heads)])),
        tooltip=told if why is None else [*told, "why:N"],
    )
    most = max((abs(float(row["NAS"])) for row in rows), default=0.0) or 1e-9
    cells = base.mark_rect().encode(color=_colour(most, words))
    legend = alt.Legend(orient="bottom", symbolStrokeColor=PAGE, symbolFillColor="transparent")
    shapes = alt.Scale(domain=list(MARKS), range=list(MARKS.values()))
    marks = (  # all hollow, as a legend cannot fill one of its symbols alone
        base.mark_point(size=70, strokeWidth=2.5, filled=False, color=PAGE, opacity=1)
        .encode(shape=alt.Shape("fate:N", title=None, scale=shapes, legend=legend))
        .transform_filter(alt.FieldOneOfPredicate(field="fate", oneOf=list(MARKS)))
    )
    return (cells + marks).resolve_scale(shape="independent", color="independent")


def map_height(heads: int) -> int:
    """Return the height of the map in pixels."""
    return heads * (16 if heads <= 16 else 10)


def _colour(most: float, words: tuple[str, str]) -> Any:
    """Green below 0, purple above, by the root, so that small scores are seen too."""
    import altair as alt

    yes, no = words
    scale = alt.Scale(
        type="sqrt", domain=[-most, 0, most], range=[TO_YES, FAINT, TO_NO], nice=False
    )
    title = f"NAS: above 0 it looks at {no}, below at {yes}"
    legend = alt.Legend(gradientLength=220, titleLimit=300, tickCount=5)
    return alt.Color("NAS:Q", title=title, scale=scale, legend=legend)


def _every(count: int) -> Any:
    """An axis of at most 16 labels, which is what a phone has room for.

    It says so by an expression, since Vega drops the first of ``values`` at some widths.
    """
    import altair as alt

    label = f"datum.value % {-(-count // 16)} ? '' : datum.label"
    return alt.Axis(labelAngle=0, labelOverlap=False, ticks=False, labelExpr=label)
