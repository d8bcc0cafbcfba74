"""Where NAS does not fit what was found: it does not explain the lean, or tuning overshot."""

import math
from collections.abc import Iterator

from nasalign.reporting.formats import number, percent
from nasalign.reporting.report.data_sets import DataSet
from nasalign.reporting.report.run_folder import RunFiles

_PAST_SHARE = 0.1  # by how much the share of Yes may pass the halting share


def nas_notes(data: DataSet, files: RunFiles) -> Iterator[str]:
    """Yield a sentence where NAS contradicts the lean, and on each head that overshot."""
    yield from _unexplained(data, files)
    yield from _overshot(files)
    yield from _past_the_share(files)


def _unexplained(data: DataSet, files: RunFiles) -> Iterator[str]:
    """Whether attention was on the other word than the one that was said too often."""
    before, (yes, no) = data.figures["before"], files.words
    if "nas" not in before or data.positives is None:
        return
    nas, low, high = before["nas"]
    _, least, most = before["yes_rate"]
    if not files.to_no and high < 0 and most < data.positives:
        looks, lean, side = yes, no, "below"
    elif files.to_no and low > 0 and least > data.positives:
        looks, lean, side = no, yes, "above"
    else:
        return
    yield (
        f"Its model NAS was {number(nas)} before, {side} 0 already: its heads attend to {looks} "
        f"more than to {lean}. NAS does not explain this lean to {lean}, and a change of NAS does "
        "not explain what tuning did to it."
    )


def _overshot(files: RunFiles) -> Iterator[str]:
    """The kept heads whose NAS ended farther below 0 than it had been above, or began below."""
    aim, other = files.words if not files.to_no else files.words[::-1]
    for row in files.decided:
        start, end = (float(row.get(name, math.nan)) for name in ("alpha_before", "alpha"))
        if not row["kept"] or not end < 0 or not end < -abs(start):
            continue
        where = f"layer {row['layer']}, head {row['head']}"
        if start < 0:
            yield (
                f"The NAS of {where} was {number(start)}, below 0 already, and ends at "
                f"{number(end)}: tuning made it attend still more to {aim}."
            )
        else:
            yield (
                f"Tuning overshot: the NAS of {where} went from {number(start)} past 0 to "
                f"{number(end)}, so that it now attends to {aim} more than it had to {other}."
            )


def _past_the_share(files: RunFiles) -> Iterator[str]:
    """Whether the last kept head left the share of Yes far above where tuning was to halt."""
    halting = files.facts.get("halting") or {}
    kept = [row for row in files.decided if row["kept"]]
    if halting.get("kind") != "share" or not kept:
        return
    share, limit = float(kept[-1].get("yes_share", math.nan)), float(halting["value"])
    if share > limit + _PAST_SHARE:
        yield (
            f"Tuning overshot: it halts at {percent(limit)} {files.words[files.to_no]} on "
            f"held-back questions, and its last step went to {percent(share)}."
        )
