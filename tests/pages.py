"""The pages of the documentation, and the fenced blocks on them."""

import importlib.util
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]

_FENCE = re.compile(r"^(?P<fence>```+)(?P<info>[^`\n]*)\n(?P<body>.*?)^(?P=fence)$", re.M | re.S)
_MARKER = re.compile(r"<!-- not run: (.+?) -->\s*\Z")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: str
    language: str
    title: str  # the file that it is to be, or an empty text
    body: str
    reason: str  # why it is not run, or an empty text

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command line."""
        lines = self.body.replace("\\\n", " ").splitlines()
        return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def blocks(page: Path) -> list[Block]:
    """Returns the fenced blocks of a page in their order."""
    text, found = page.read_text(encoding="utf-8"), []
    for match in _FENCE.finditer(text):
        language, _, more = match["info"].strip().partition(" ")
        title = re.search(r'title="(.+?)"', more)
        marker = _MARKER.search(text, 0, match.start())
        reason = marker[1] if marker else ""
        found.append(Block(page.name, language, title[1] if title else "", match["body"], reason))
    return found


def prose(page: Path) -> str:
    """Returns a page without its blocks and its inline code, where a link is no link."""
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text(encoding="utf-8")))


def script(name: str) -> ModuleType:
    """Returns a script of the documentation as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
