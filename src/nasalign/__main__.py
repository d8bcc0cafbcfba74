"""``python -m nasalign`` is the command line."""

import os
import sys

# With -m, Python looks for modules in the current folder first: a torch.py in somebody's model
# folder would be run. The command ``nasalign`` does not look there.
if not sys.flags.safe_path and sys.path[0] == os.getcwd():  # noqa: PTH109
    del sys.path[0]

from nasalign.commands import main

main()
