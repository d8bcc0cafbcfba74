"""Record the demo in a terminal and draw it as an animated SVG, for the README."""

import argparse
import codecs
import fcntl
import json
import os
import pty
import shlex
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

COLUMNS, LINES = 100, 32
COMMANDS = (
    ("nasalign", "align", "smollm2-135m", "--out", "runs/demo"),
    (
        *("nasalign", "ask", "smollm2-135m", "Who is the author of Don Quixote?"),
        *("--answer", "Miguel de Cervantes", "--adapter", "runs/demo"),
    ),
)


def record(folder: Path) -> list[tuple[float, str]]:
    """Run the commands in a terminal of their own; return what it got, with the seconds."""
    events: list[tuple[float, str]] = []
    began = time.monotonic()
    for words in COMMANDS:
        events.append((time.monotonic() - began, f"\x1b[1m$ {shlex.join(words)}\x1b[0m\r\n"))
        for part in _output(words, folder):
            events.append((time.monotonic() - began, part))
    return events


def _output(words, folder):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    process = subprocess.Popen(
        words, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    decoder = codecs.getincrementaldecoder("utf-8")()
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # Linux says so that nobody writes any more
            break
        if not data:
            break
        yield decoder.decode(data)
    os.close(ours)
    if process.wait():
        raise SystemExit(f"{shlex.join(words)} ended with {process.returncode}.")


def main() -> None:
    folder = Path(sys.argv[1])
    events = record(folder)
    with (folder / "demo.cast").open("w") as file:
        file.write(json.dumps({"version": 2, "width": COLUMNS, "height": LINES}) + "\n")
        for when, text in events:
            file.write(json.dumps([round(when, 3), "o", text]) + "\n")


if __name__ == "__main__":
    main()
