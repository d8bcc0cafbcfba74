"""Tuning as the report shows it: a row an epoch for the charts, a row a head for the table."""

import math
from dataclasses import dataclass

from nasalign.reporting.report.run_folder import Row, RunFiles, fates

HEAD_COLUMNS = (
    "order",
    "layer",
    "head",
    "became",
    "NAS, probing set",
    "head NAS before",
    "head NAS after",
    "model NAS before",
    "model NAS after",
    "share of Yes",
    "epochs",
    "why",
)


@dataclass(frozen=True)
class HeadRow:
    """A row of the table of heads.

    Attributes:
        place: its order, layer and head.
        fate: kept, cancelled, not finished or not reached.
        numbers: under the next columns; an empty text where there is none.
        why: in words.
    """

    place: tuple[int, int, int]
    fate: str
    numbers: list[float | int | str]
    why: str


def head_rows(files: RunFiles) -> list[HeadRow]:
    """Returns a row a selected head; nothing if none is tuned."""
    if not files.tuning:
        return []
    done = {(row["layer"], row["head"]): row for row in files.decided}
    rows = []
    for order, ((layer, head), fate) in enumerate(fates(files).items(), start=1):
        nas = next(
            (one["nas"] for one in files.heads if (one["layer"], one["head"]) == (layer, head)), ""
        )
        record = done.get((layer, head))
        values: list[float | int | str] = [""] * 6
        why = ""
        if record:
            names = ("alpha_before", "alpha", "beta_before", "beta", "yes_share")
            values = [_finite(record[name]) for name in names] + [record["epochs"]]
            why = _why(record)
        rows.append(HeadRow((order, layer, head), fate, [nas, *values], why))
    return rows


def _why(record: Row) -> str:
    parts = [f"stopped: {record['stopped']}"]
    if record["cancelled"]:
        parts.append(f"cancelled: {record['cancelled']}")
    if record["halted"]:
        parts.append(f"all tuning halts: {record['halted']}")
    return "; ".join(parts)


def epochs(files: RunFiles) -> list[Row]:
    """Returns a row an epoch and one for each head's start, with all that the charts show.

    Returns:
        ``at`` counts the epochs of all heads, ``epoch`` those of the head, 0 being its start.
    """
    fate = fates(files)
    rows: list[Row] = []
    at, share = 0, None  # the share of what the kept heads left
    current: tuple[int, int] | None = None
    for record in files.tuning:
        head = record["layer"], record["head"]
        if record["record"] == "head":
            share = record["yes_share"] if record["kept"] else share
            current = None
            continue
        name = {"name": f"layer {head[0]}, head {head[1]}", "fate": fate[head]}
        if head != current:
            current = head
            rows.append(name | {"at": at, "epoch": 0, "yes_share": share} | _start(files, head))
        at += 1
        values = {part: _number(record[part]) for part in ("alpha", "beta", "yes_share")}
        rows.append(name | {"at": at, "epoch": record["epoch"]} | values)
    return rows


def _start(files: RunFiles, head: tuple[int, int]) -> Row:
    """What a head and the model scored before it was tuned; unknown until it is done."""
    for record in files.decided:
        if (record["layer"], record["head"]) == head:
            return {
                "alpha": _number(record["alpha_before"]),
                "beta": _number(record["beta_before"]),
            }
    return {"alpha": None, "beta": None}


def limit_of(files: RunFiles, kind: str) -> float | None:
    """Returns where tuning halts: ``tau`` of model NAS, or the ``share`` of Yes; else None."""
    halting = str(files.facts.get("halting", ""))
    words = halting.split()
    if not words or (kind == "tau") != ("tau" in words):
        return None
    return _number(words[-1])


def _number(value: float | str) -> float | None:
    """A number that JSON does not have is written as text ("nan"); charts leave it out."""
    found = float(value)
    return found if math.isfinite(found) else None


def _finite(value: float | str) -> float | str:
    found = _number(value)
    return str(value) if found is None else found
