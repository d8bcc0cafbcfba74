"""The command line: thin, one function a command; torch is loaded only when a command runs."""

import os

from nasalign.cli import interactive, models, results, system
from nasalign.cli.app import app

__all__ = ["app", "interactive", "main", "models", "results", "system"]


def main() -> None:
    """Runs the command line; exits with 0 on success and 2 on a user's mistake."""
    os.environ.setdefault(
        "PYTHONSAFEPATH", "1"
    )  # also for what libraries start, as multiprocessing
    app()
