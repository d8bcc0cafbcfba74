"""The command line: thin, one function a command; torch is loaded only when a command runs."""

import os

from nasalign.commands import cli_interactive as interactive
from nasalign.commands import cli_models as models
from nasalign.commands import cli_results as results
from nasalign.commands import cli_system as system
from nasalign.commands.app import app

__all__ = ["app", "interactive", "main", "models", "results", "system"]


def main() -> None:
    """Runs the command line; exits with 0 on success and 2 on a user's mistake."""
    os.environ.setdefault(
        "PYTHONSAFEPATH", "1"
    )  # also for what libraries start, as multiprocessing
    app()
