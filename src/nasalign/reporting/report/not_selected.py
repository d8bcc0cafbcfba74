"""Why a head of high NAS was not selected (Eq. 2-4)."""

from collections.abc import Iterator

import numpy as np

from nasalign.nas.heads import ALIGNMENT, HeadCounts, head_counts
from nasalign.reporting.formats import number, percent
from nasalign.reporting.report.run_folder import RunFiles

MOST = 5
"""Heads that are named in the text; the chart tells it of each."""


def why_not(files: RunFiles) -> dict[tuple[int, int], str]:
    """Return the reason for each head that was not selected, by layer and head."""
    if files.nas is None or files.listed is None or not files.heads:
        return {}
    selected = {(head["layer"], head["head"]) for head in files.heads}
    counts = _counts(files)
    known = [(layer, head) for layer, head in np.argwhere(~np.isnan(files.nas)).tolist()]
    return {head: _reason(files, counts, head) for head in known if head not in selected}


def high_but_not_selected(files: RunFiles) -> Iterator[str]:
    """Yield a sentence on each head of higher NAS than a selected one, the highest first."""
    reasons = why_not(files)
    if not reasons or files.nas is None:
        return
    lowest = min(float(head["nas"]) for head in files.heads)
    high = [(float(files.nas[head]), head) for head in reasons]
    high = sorted((one for one in high if one[0] > max(0.0, lowest)), reverse=True)
    for nas, (layer, head) in high[:MOST]:
        yield (
            f"Layer {layer}, head {head} (NAS {number(nas)}) was not selected: "
            f"{reasons[layer, head]}."
        )
    if len(high) > MOST:
        yield f"The chart says it of {len(high) - MOST} more."


def _counts(files: RunFiles) -> HeadCounts:
    k, n = (files.settings.get(name) for name in ("k", "n"))
    return head_counts(ALIGNMENT, k, n, files.head_count)


def _reason(files: RunFiles, counts: HeadCounts, head: tuple[int, int]) -> str:
    assert files.listed is not None
    settings = files.settings
    if settings.get("method") == "nasa+" and settings.get("selection") == "attribution":
        return "heads are chosen by what their rows do to the answer, not by NAS"
    share, needed = float(files.listed[head]), float(settings.get("consistency", 0.9))
    if share < needed:
        return (
            f"it is among the {counts.k} of highest NAS on {percent(share)} of the questions, "
            f"where {percent(needed)} are needed"
        )
    return f"{len(files.heads)} heads of higher NAS were taken"
