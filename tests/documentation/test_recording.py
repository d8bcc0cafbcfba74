"""The recording of the demo: what a terminal got, shortened, as an animated picture."""

import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from pages import DOCS, script

pytest.importorskip("pyte")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it has no pseudo-terminals")

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def recording() -> ModuleType:
    return script("make_recording")


def test_what_a_command_writes_is_recorded(recording: ModuleType, tmp_path: Path) -> None:
    program = (
        "import os, sys; print(os.getcwd(), sys.stdout.isatty(), os.get_terminal_size().columns)"
    )
    events = recording.record([[sys.executable, "-P", "-c", program]], tmp_path)
    assert events[0][1].startswith("\x1b[1m$ ")
    written = "".join(text for _, text in events[1:])
    assert written.split() == [str(tmp_path), "True", str(recording.COLUMNS)]
    recording.write_cast(tmp_path / "a.cast", events)
    assert [text for _, text in recording.read_cast(tmp_path / "a.cast")] == [
        text for _, text in events
    ]


def test_a_command_that_fails_says_what_it_wrote(recording: ModuleType, tmp_path: Path) -> None:
    program = "import sys; sys.exit('no such thing')"
    with pytest.raises(SystemExit, match="no such thing"):
        recording.record([[sys.executable, "-P", "-c", program]], tmp_path)


def events(minutes: float) -> list[tuple[float, str]]:
    """A bar that is drawn again a thousand times in a command, then a short second one."""
    whole = 60 * minutes
    found = [(0.0, "\x1b[1m$ first\x1b[0m\r\n")]
    found += [(whole * n / 1000, f"\r\x1b[2K\x1b[32mheads\x1b[0m {n} of 1000") for n in range(1001)]
    found += [(whole + 1, "\r\n<done> & well\r\n"), (whole + 1, "\x1b[1m$ second\x1b[0m\r\n")]
    return [*found, (whole + 2, "Yes\r\n")]


def text_of(frame: tuple) -> str:
    return "\n".join("".join(run[0] for run in line) for line in frame[1])


@pytest.mark.parametrize("minutes", [0.1, 10, 100])
def test_minutes_become_seconds(recording: ModuleType, minutes: float) -> None:
    frames = recording.frames_of(events(minutes))
    assert 20 < sum(seconds for seconds, _ in frames) < 60
    assert 50 < len(frames) <= recording.FRAMES + 4
    shown = [text_of(frame) for frame in frames]
    assert shown[0].startswith("$ first")
    held = next(n for n, text in enumerate(shown) if "<done>" in text)
    assert frames[held][0] >= recording.PAUSE
    assert "Yes" in shown[-1]
    assert frames[-1][0] >= recording.PAUSE


def test_the_drawing_shows_each_screen_in_its_time(recording: ModuleType) -> None:
    frames = recording.frames_of(events(10))
    text = recording.drawing(frames)
    assert len(text) < 500_000
    page = ElementTree.fromstring(text)
    lines = {group.get("id"): group for group in page.iter(f"{SVG}g")}
    film = lines["film"]
    assert len(film) == len(frames)
    for screen, frame in zip(film, frames, strict=True):
        used = [lines[use.get("href", "").removeprefix("#")] for use in screen]
        said = ["".join(part.text or "" for part in line) for line in used]
        drawn = ["".join(run[0].strip() for run in line) for line in frame[1] if line]
        assert said == drawn
    assert text.count("translateX(") == len(frames) + 2
    assert "prefers-reduced-motion" in text


PICTURE = DOCS / "images" / "demo.svg"


@pytest.mark.skipif(not PICTURE.exists(), reason="the demo is not recorded yet")
def test_the_picture_is_of_the_demo_and_small(recording: ModuleType) -> None:
    text = PICTURE.read_text(encoding="utf-8")
    assert len(text) < 500_000
    said = " ".join(part.text or "" for part in ElementTree.fromstring(text).iter(f"{SVG}text"))
    for words in recording.COMMANDS:
        assert " ".join(words[:3]) in said
    assert "untouched: No -> aligned: Yes" in said
