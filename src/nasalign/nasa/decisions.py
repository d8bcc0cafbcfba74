"""What Algorithm 1 decides, epoch by epoch and head by head: the rows of ``tuning.jsonl``."""

import math
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of one head; ``alpha``, ``beta`` are measured on V after it."""

    layer: int
    head: int
    epoch: int
    loss: float
    alpha: float
    beta: float
    yes_share: float


@dataclass(frozen=True)
class HeadRecord:
    """The outcome of one head.

    Attributes:
        stopped: why its epochs ended: ``head NAS rose``, ``head NAS below rho``,
            ``model NAS rose``, ``enough Yes`` (or No), ``loss not finite``, ``NAS not finite``,
            ``all epochs``; with a line search ``model NAS below tau``; with ``by_model`` ``model
            NAS above its start``.
        kept: whether the update stays.
        cancelled: why it does not, or an empty text.
        halted: why all tuning ends after this head, or an empty text.
        scale: share of the last epoch's update that stays; less than 1 after a line search.
        yes_share_before: ``yes_share`` at its start; NaN in the runs of an earlier version.
    """

    layer: int
    head: int
    alpha_before: float
    beta_before: float
    alpha: float
    beta: float
    yes_share: float
    epochs: int
    stopped: str
    kept: bool
    cancelled: str
    halted: str
    scale: float = 1.0
    yes_share_before: float = math.nan


def as_row(record: EpochRecord | HeadRecord) -> dict[str, Any]:
    """Return a record as a plain row of ``tuning.jsonl``."""
    return {"record": "epoch" if isinstance(record, EpochRecord) else "head", **asdict(record)}


def records_from_rows(rows: Sequence[dict[str, Any]]) -> list[EpochRecord | HeadRecord]:
    """Return the records of rows of ``tuning.jsonl``."""
    records: list[EpochRecord | HeadRecord] = []
    for row in rows:
        kind: Any = EpochRecord if row["record"] == "epoch" else HeadRecord
        values = {}
        for part in fields(kind):  # a number that JSON does not have is written as text
            # A field that is newer than the run has its default.
            value = row[part.name] if part.default is MISSING else row.get(part.name, part.default)
            values[part.name] = float(value) if part.type is float else value
        records.append(kind(**values))
    return records
