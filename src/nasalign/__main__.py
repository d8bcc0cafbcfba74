"""``python -m nasalign`` is the command line."""

from nasalign.cli import main

main()
