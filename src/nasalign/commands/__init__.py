"""The command line: one file a command."""

import os

from nasalign.commands.app import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line; exits with 0 on success and 2 on a user's mistake."""
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # also for child processes of libraries
    app()
