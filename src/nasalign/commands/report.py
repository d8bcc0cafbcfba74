"""Writing the report of a run again."""

from pathlib import Path

from nasalign.reporting.report import write_report


def report_job(folder: Path) -> Path:
    """Writes ``report.html`` of a run from its files; no model is loaded.

    Args:
        folder: the run directory, of a run that is complete or not.

    Returns:
        The path of the report.

    Raises:
        NasAlignError: it is no run directory, or a file in it is broken.
    """
    return write_report(folder)
