"""Imports run one way, in the order of reading; names stand once; nothing is patched."""

import ast
from collections import Counter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "nasalign"
ORDER = [
    "errors",
    "config",
    "extras",
    "io",
    "progress",
    "data",
    "models",
    "prompts",
    "nas",
    "inference",
    "run_file",
    "run",
    "session",
    "head_rows",
    "nasa",
    "nasa_plus",
    "adapters",
    "evaluation",
    "alignment",
    "yes_no_classifier",
    "rivals",
    "harness",
    "reporting",
    "tracking",
    "reproduction",
    "serve",
    "commands",
]
FILES = sorted(path for path in SOURCE.rglob("*.py") if path.parent != SOURCE or path.stem in ORDER)


def room(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_module_imports_one_to_its_right(path: Path) -> None:
    here = ORDER.index(room(path.relative_to(SOURCE).parts))
    for node in ast.walk(ast.parse(path.read_text())):
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [name.name for name in node.names] if isinstance(node, ast.Import) else []
        for module in modules:
            if module.startswith("nasalign."):
                assert ORDER.index(room(tuple(module.split(".")[1:]))) <= here, module


def test_no_public_name_and_no_file_name_stands_twice() -> None:
    names: Counter[str] = Counter()
    stems: Counter[str] = Counter()
    for path in FILES:
        commands = "commands" in path.relative_to(SOURCE).parts  # a file is named after its command
        stems[path.stem] += not commands and path.stem != "__init__"
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                names[node.name] += not (commands and node.name == path.stem)
    assert [name for name, count in names.items() if count > 1] == []
    assert [stem for stem, count in stems.items() if count > 1] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_module_patches_another_library(path: Path) -> None:
    text = path.read_text()
    assert "unittest.mock" not in text
    assert "monkeypatch" not in text
