"""The command line: one file a command, imported when that command is run."""

import os

from nasalign.commands.app import app

__all__ = ["app", "main"]


def main() -> None:
    """Runs the command line; exits with 0 on success and 2 on a user's mistake."""
    # Also for the Python processes that libraries start, such as those of multiprocessing.
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    app()
