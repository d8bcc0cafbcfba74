"""Tuning as the report shows it: a row an epoch for the charts, a row a head for the table."""

import math
from typing import Any

from nasalign.reporting.formats import number
from nasalign.reporting.report.run_folder import Row, RunFiles

HEAD_COLUMNS = (
    *("order", "layer", "head", "became", "NAS, probing set", "head NAS before", "head NAS after"),
    *("model NAS before", "model NAS after", "share of Yes", "epochs", "why"),
)

_BALANCE = "as many right as wrong answers"


def fates(files: RunFiles) -> dict[tuple[int, int], str]:
    """Return what became of each selected head: kept, cancelled, not finished or not reached."""
    found = {(head["layer"], head["head"]): "not reached" for head in files.heads}
    if files.joint:
        return dict.fromkeys(found, "kept" if files.kept else "cancelled")
    for row in files.tuning:
        fate = "not finished"
        if row["record"] == "head":
            fate = "kept" if row["kept"] else "cancelled"
        found[row["layer"], row["head"]] = fate
    return found


def head_rows(files: RunFiles) -> list[dict[str, Any]]:
    """Return a row a selected head; nothing if none is tuned.

    Returns:
        ``place`` is its order, layer and head; ``fate``, ``numbers`` and ``why`` fill the other
        ``HEAD_COLUMNS``.
    """
    if not files.tuning:
        return []
    done = {(row["layer"], row["head"]): row for row in files.decided}
    nas = {(head["layer"], head["head"]): head["nas"] for head in files.heads}
    names = ("alpha_before", "alpha", "beta_before", "beta", "yes_share")
    reasons = {"stopped": "stopped", "cancelled": "cancelled", "halted": "all tuning halts"}
    rows = []
    for order, (head, fate) in enumerate(fates(files).items(), start=1):
        record = done.get(head, {})
        values: list[float | int | str] = [""] * 6
        if record:
            values = [_finite(record[name]) for name in names] + [record["epochs"]]
        why = "; ".join(
            f"{says}: {record[one]}" for one, says in reasons.items() if record.get(one)
        )
        if record.get("scale", 1) < 1:
            why += f"; last epoch shortened to {record['scale']:.2f} of its length"
        numbers = [nas.get(head, ""), *values]
        rows.append({"place": (order, *head), "fate": fate, "numbers": numbers, "why": why})
    return rows


def epochs(files: RunFiles) -> list[Row]:
    """Return a row an epoch and one for each head's start, with all that the charts show.

    Returns:
        ``at`` counts the epochs of all heads, ``epoch`` those of the head, 0 being its start.
    """
    fate = fates(files)
    done = {(row["layer"], row["head"]): row for row in files.decided}
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
            current, start = head, done.get(head, {})  # the start is known once the head is done
            before = {part: _number(start.get(f"{part}_before")) for part in ("alpha", "beta")}
            known = _number(start.get("yes_share_before"))
            before["yes_share"] = share if known is None else known
            rows.append(name | {"at": at, "epoch": 0} | before)
        at += 1
        values = {part: _number(record[part]) for part in ("alpha", "beta", "yes_share")}
        rows.append(name | {"at": at, "epoch": record["epoch"]} | values)
    return rows


def joint_rows(files: RunFiles) -> list[dict[str, Any]]:
    """Return a row an epoch of nasa+: ``epoch``, ``loss``, ``validation`` and ``kept``."""
    best = max((row["epoch"] for row in files.joint if row["kept"]), default=0)
    return [
        {
            "epoch": row["epoch"],
            "loss": "" if row["epoch"] == 0 else float(row["loss"]),
            "validation": float(row["validation"]),
            "kept": row["epoch"] == best,
        }
        for row in files.joint
    ]


def limit_of(files: RunFiles, kind: str) -> float | None:
    """Return where tuning halts: ``tau`` of model NAS, or the ``share`` of Yes; else None."""
    halting = files.facts.get("halting") or {}
    return _number(halting["value"]) if halting.get("kind") == kind else None


def halting_rule(files: RunFiles) -> str:
    """Return where tuning halts, in words; an empty text if no head was to be tuned."""
    halting = files.facts.get("halting") or {}
    if not halting:
        return ""
    if halting["kind"] == "tau":
        return f"model NAS on what is held back below tau = {number(float(halting['value']))}"
    of = _BALANCE if halting.get("of") == "balance" else "held-back answers"
    return f"share of {of} answered {halting['answer']} above {halting['value']}"


def share_of_what(files: RunFiles) -> str:
    """Return what the share of Yes is of that is measured after each epoch."""
    balanced = (files.facts.get("halting") or {}).get("of") == "balance"
    return f"{_BALANCE}, held back," if balanced else "the validation set"


def rate_found(files: RunFiles) -> str:
    """Return the learning rate that was found, in words; an empty text where it was set."""
    found = files.facts.get("learning_rate") or {}
    if not found:
        return ""
    rates = " and ".join(f"{rate:.2g}" for rate in found["rates"])
    return (
        f"{found['relative']:.2g} of the root mean square of a head's rows, found on the first "
        f"head ({rates} there)"
    )


def _number(value: float | str | None) -> float | None:
    """A number that JSON does not have is written as text ("nan"); charts leave it out."""
    found = math.nan if value is None else float(value)
    return found if math.isfinite(found) else None


def _finite(value: float | str) -> float | str:
    found = _number(value)
    return str(value) if found is None else found
