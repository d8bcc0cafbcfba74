"""Record the demo in a terminal, and draw the recording as an animated SVG for the README.

``python docs/make_recording.py`` runs the demo in a pseudo-terminal and writes
``docs/images/demo.svg``. All that is shown is what the commands wrote; their times are shortened by
one factor, so that minutes become seconds. ``--save FILE`` also keeps the recording as an asciicast
(https://docs.asciinema.org/manual/asciicast/v2/), which ``--cast FILE`` draws again without a run.
"""

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
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

import pyte

OUT = Path(__file__).parent / "images" / "demo.svg"
COLUMNS, LINES = 92, 34
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("nasalign", "align", "smollm2-135m", "--out", "runs/demo"),
    (
        *("nasalign", "ask", "smollm2-135m", "Who is the author of Don Quixote?"),
        *("--answer", "Miguel de Cervantes", "--adapter", "runs/demo"),
    ),
)
FRAMES = 110
"""Pictures of the whole recording at most; each is shown for ``SECONDS / FRAMES`` or longer."""
SECONDS = 30.0
"""What the recorded time is shortened to; the pauses to read are added."""
PAUSE = 5.0
"""Seconds for which the end of each command stays."""
_WIDTH, _HEIGHT = 8.4, 18  # of a character, in pixels
_COLOURS = {
    **{"default": "#d8dee9", "black": "#3b4252", "red": "#e06c75", "green": "#98c379"},
    **{"brown": "#e5c07b", "blue": "#6ca7e8", "magenta": "#c678dd", "cyan": "#56b6c2"},
    **{"white": "#d8dee9", "brightblack": "#7f8896", "brightred": "#e06c75"},
    **{"brightgreen": "#98c379", "brightbrown": "#e5c07b", "brightblue": "#6ca7e8"},
    **{"brightmagenta": "#c678dd", "brightcyan": "#56b6c2", "brightwhite": "#ffffff"},
}
Event = tuple[float, str]
"""Seconds since the start, and what was written then."""
Line = tuple[tuple[str, str, bool, int], ...]
"""Runs of text of one look: the text, its colour, whether it is bold, and its column."""
Frame = tuple[float, tuple[Line, ...]]
"""How long a screen is shown, in seconds, and its lines."""


def record(commands: Sequence[Sequence[str]], folder: Path) -> list[Event]:
    """Run commands one after the other in a folder and return what the terminal got.

    Raises:
        SystemExit: a command fails; its output is in the message.
    """
    events: list[Event] = []
    began = time.monotonic()
    for words in commands:
        events.append((time.monotonic() - began, f"\x1b[1m$ {shlex.join(words)}\x1b[0m\r\n"))
        process, terminal = _started(words, folder)
        first = len(events)
        events += ((time.monotonic() - began, text) for text in _written(terminal))
        if process.wait():
            said = "".join(text for _, text in events[first:])
            raise SystemExit(f"{shlex.join(words)} ended with {process.returncode}:\n{said}")
    return events


def _started(words: Sequence[str], folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """A command in a terminal of its own, and our end of that."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    program = Path(sys.executable).parent / words[0]
    process = subprocess.Popen(
        [str(program) if program.exists() else words[0], *words[1:]],
        cwd=folder,
        env=os.environ | {"TERM": "xterm-256color", "PYTHONSAFEPATH": "1"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    return process, ours


def _written(terminal: int) -> Iterator[str]:
    """What is written to a terminal, until nobody writes any more."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # so Linux says that the other end is closed
            data = b""
        if not data:
            os.close(terminal)
            return
        yield decoder.decode(data)


def frames_of(events: Sequence[Event]) -> list[Frame]:
    """Return the screens of a recording, shortened to about ``SECONDS`` and the pauses.

    Screens are taken at even distances of time, and before each command and at the end.
    """
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.Stream(screen)
    whole = max(events[-1][0], 1e-9)
    shown: list[Frame] = []
    due = 0.0
    for number, (when, text) in enumerate(events):
        stream.feed(text)
        following = events[number + 1] if number + 1 < len(events) else None
        ends = following is None or following[1].startswith("\x1b[1m$ ")
        until = following[0] if following else when
        if ends or until >= due:
            seconds = (until - max(due - whole / FRAMES, when)) * SECONDS / whole
            lines = tuple(map(_line, _rows(screen)))
            least = PAUSE if ends and number else SECONDS / FRAMES
            shown.append((max(seconds, least), lines))
            due = max(until, due) + whole / FRAMES
    return [
        (sum(seconds for seconds, _ in same), lines)
        for lines, group in groupby(shown, key=lambda frame: frame[1])
        for same in [list(group)]
    ]


def _rows(screen: pyte.Screen) -> list[list[pyte.screens.Char]]:
    return [[screen.buffer[row][column] for column in range(COLUMNS)] for row in range(LINES)]


def _line(row: Sequence[pyte.screens.Char]) -> Line:
    """The runs of a line; what is blank is left out."""
    runs, at = [], 0
    for (colour, bold), group in groupby(row, key=lambda char: (char.fg, char.bold)):
        text = "".join(char.data for char in group)
        if text.strip():
            runs.append((text.rstrip(), _COLOURS.get(colour, f"#{colour}"), bold, at))
        at += len(text)
    return tuple(runs)


def drawing(frames: Sequence[Frame]) -> str:
    """Return an animated SVG; the same line is drawn once. Without motion it shows the end."""
    names: dict[Line, str] = {}
    for line in (line for _, lines in frames for line in lines if line):
        names.setdefault(line, f"l{len(names)}")
    width, height = round(COLUMNS * _WIDTH) + 24, LINES * _HEIGHT + 24
    whole, at, keys = sum(seconds for seconds, _ in frames), 0.0, []
    for number, (seconds, _) in enumerate(frames):
        keys.append(f"{100 * at / whole:.3f}%{{transform:translateX({-number * width}px)}}")
        at += seconds
    last = -(len(frames) - 1) * width
    defined = "".join(f'<g id="{name}">{_drawn(line)}</g>' for line, name in names.items())
    screens = "".join(
        f'<g transform="translate({number * width},0)">'
        + "".join(
            f'<use href="#{names[line]}" y="{(row + 1) * _HEIGHT}"/>'
            for row, line in enumerate(lines)
            if line
        )
        + "</g>"
        for number, (_, lines) in enumerate(frames)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-labelledby="title">'
        '<title id="title">A recording of the demo in a terminal</title><style>'
        f"text{{font:14px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
        "white-space:pre}.b{font-weight:700}"
        f"#film{{animation:film {whole:.2f}s steps(1,end) infinite}}"
        f"@keyframes film{{{''.join(keys)}100%{{transform:translateX({last}px)}}}}"
        f"@media(prefers-reduced-motion:reduce){{#film{{animation:none;transform:"
        f"translateX({last}px)}}}}</style><defs>{defined}</defs>"
        f'<rect width="{width}" height="{height}" rx="8" fill="#1b1f27"/>'
        f'<svg x="12" y="8" width="{width - 24}" height="{height - 16}"><g id="film">{screens}'
        "</g></svg></svg>\n"
    )


def _drawn(line: Line) -> str:
    """The text of a line; each run is as long as its characters, whatever the font."""
    parts = []
    for text, colour, bold, at in line:
        lead = len(text) - len(text.lstrip())
        shown, x = text.strip(), (at + lead) * _WIDTH
        look = ' class="b"' if bold else ""
        parts.append(
            f'<text x="{x:.1f}" fill="{colour}"{look} textLength="{len(shown) * _WIDTH:.1f}" '
            f'xml:space="preserve">{escape(shown)}</text>'
        )
    return "".join(parts)


def read_cast(path: Path) -> list[Event]:
    """Return the events of an asciicast of version 2."""
    _, *lines = path.read_text(encoding="utf-8").splitlines()
    return [(when, text) for when, kind, text in map(json.loads, lines) if kind == "o"]


def write_cast(path: Path, events: Sequence[Event]) -> None:
    """Write events as an asciicast of version 2."""
    lines: list[object] = [{"version": 2, "width": COLUMNS, "height": LINES}]
    lines += [[round(when, 3), "o", text] for when, text in events]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")


def main() -> None:
    """Record, or read a recording, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cast", type=Path, help="draw this recording in place of a new one")
    parser.add_argument("--save", type=Path, help="keep the recording there")
    given = parser.parse_args()
    if given.cast:
        events = read_cast(given.cast)
    else:
        with tempfile.TemporaryDirectory() as folder:
            events = record(COMMANDS, Path(folder))
    if given.save:
        write_cast(given.save, events)
    frames = frames_of(events)
    OUT.write_text(drawing(frames), encoding="utf-8")
    seconds, size = sum(seconds for seconds, _ in frames), OUT.stat().st_size
    print(f"{OUT}: {len(frames)} pictures, {seconds:.0f} s, {size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
