"""Tuning all heads together (nasa+) as the report shows it: an epoch after the other, by kind."""

from typing import Any

from nasalign.reporting.report.run_folder import RunFiles

KINDS = {  # as a reader knows them
    "known": "known answers",
    "unknown": "answers it does not know",
    "direct": "asked directly",
    "context": "with a context",
    "numbers": "sums",
}


def joint_rows(files: RunFiles) -> list[dict[str, Any]]:
    """Returns a row an epoch for the table: ``epoch``, ``loss``, ``validation`` and ``kept``."""
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
