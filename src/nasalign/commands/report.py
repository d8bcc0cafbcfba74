"""``nasalign report``."""

from pathlib import Path
from typing import Annotated

import typer

from nasalign.commands.app import command
from nasalign.commands.options import AsJson
from nasalign.reporting.report import write_report


def report(
    run_folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run directory, of a finished run or not.")
    ],
    as_json: AsJson = False,
) -> None:
    """Write a run's report again: one HTML page that needs nothing else."""
    with command(as_json) as (console, emit):
        path = write_report(run_folder)
        console.print(f"Written to {path}.", highlight=False)
        emit({"report": str(path)})
