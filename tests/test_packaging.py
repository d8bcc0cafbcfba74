"""What is installed: wheel and source archive are whole, and the core does without extras."""

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import nasalign
from cases import DENIES, case, sets
from fault_tools import invoke, python, refused
from nasalign import extras

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "nasalign"
BUILD = "import sys; from hatchling import build; build.build_{}(sys.argv[1])"


def built(kind: str, folder: Path) -> Path:
    """Builds a wheel or an sdist as pip does, without a network."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-P", "-c", BUILD.format(kind), str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (archive,) = folder.iterdir()
    return archive


def kept(folder: Path) -> set[str]:
    """The files below a folder that belong to the project."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_has_every_file_of_the_package_and_the_presets(tmp_path: Path) -> None:
    with zipfile.ZipFile(built("wheel", tmp_path)) as wheel:
        names = wheel.namelist()
        about = next(name for name in names if name.endswith("METADATA"))
        metadata = wheel.read(about).decode()
    package = {name.removeprefix("nasalign/") for name in names if name.startswith("nasalign/")}
    assert package == kept(SOURCE) | {f"configs/{name}" for name in kept(ROOT / "configs")}
    assert "py.typed" in package
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert f"Version: {nasalign.__version__}" in metadata
    assert "Requires-Dist: openai<4,>=2; extra == 'judge'" in metadata


def test_the_wheel_is_found_by_what_people_search_for(tmp_path: Path) -> None:
    with zipfile.ZipFile(built("wheel", tmp_path)) as wheel:
        about = next(name for name in wheel.namelist() if name.endswith("METADATA"))
        head = wheel.read(about).decode().partition("\n\n")[0].lower()
    for word in ("yes/no", "llm-as-a-judge", "calibration", "decision", "negative bias"):
        assert word in head, word


def test_the_command_of_an_installed_wheel_runs(tmp_path: Path) -> None:
    """As by pipx run or uvx, which run the command that is called as the distribution is."""
    wheel, home = built("wheel", tmp_path / "dist"), tmp_path / "home"
    install = ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    command = [sys.executable, "-P", *install, "--target", str(home), str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    script = home / "bin" / "nasalign"
    run = [sys.executable, "-P", str(script), "--version"]
    there = {**os.environ, "PYTHONPATH": str(home)}
    ended = subprocess.run(run, env=there, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert ended.stdout.strip() == f"nasalign {nasalign.__version__}"
    ask = [sys.executable, "-P", "-c", "import nasalign; print(nasalign.__file__)"]
    ended = subprocess.run(ask, env=there, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert Path(ended.stdout.strip()).is_relative_to(home)


def test_the_source_archive_can_be_tested_and_holds_no_data_of_others(tmp_path: Path) -> None:
    with tarfile.open(built("sdist", tmp_path)) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    wanted = {"pyproject.toml", "constraints.txt", "Makefile", "LICENSE", "README.md"}
    wanted |= {"CHANGELOG.md", "tests/test_packaging.py", "docs/reproduce.md"}
    assert wanted <= names
    assert {f"src/nasalign/{name}" for name in kept(SOURCE)} <= names
    assert not any(name.startswith(("shared/", "runs/", ".venv/")) for name in names)


def test_the_version_is_in_the_changelog() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert nasalign.__version__ == project["version"]
    assert f"\n## {project['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_version_that_is_tested_with_is_pinned() -> None:
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = sum(project["optional-dependencies"].values(), project["dependencies"])
    names = {one.split(">")[0].split("[")[0].lower().replace("_", "-") for one in asked}
    assert names - {"nasalign", "pip"} <= pinned


@pytest.mark.parametrize("module", ["nasalign", "nasalign.commands"])
def test_importing_takes_nothing_heavy(module: str) -> None:
    heavy = ("torch", "numpy", "transformers", "datasets", "pandas", "scipy", "openai", "altair")
    code = f"import sys, {module}; sys.exit(' '.join(set({heavy}) & set(sys.modules)) or 0)"
    done = python("-c", code)
    assert done.returncode == 0, done.stderr


WITHOUT = """
import sys
from importlib.machinery import PathFinder

class Absent(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in EXTRAS else super().find_spec(name, path, target)

EXTRAS = {"altair", "vl_convert", "openai", "lm_eval", "bitsandbytes", "fastapi", "uvicorn"}
sys.meta_path[:] = [Absent if one is PathFinder else one for one in sys.meta_path]
from nasalign.commands import main
main()
"""


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A model and questions to it, by the names that commands below have for them."""
    model, questions = case(tmp_path, DENIES, 20)
    return {"MODEL": str(model), "FILE": str(questions), "RUN": str(tmp_path / "run")}


@pytest.mark.long
def test_the_core_aligns_and_reports_without_any_extra(files: dict[str, str]) -> None:
    settings = ("sides=both", "epochs=1", "n=1", "k=8", "bootstrap_samples=20", "answer_tokens=6")
    command = ["align", files["MODEL"], "--data", files["FILE"], "--out", files["RUN"]]
    done = python("-c", WITHOUT, *command, *sets(settings))
    assert done.returncode == 0, done.stderr
    page = (Path(files["RUN"]) / "report.html").read_text()
    assert "pip install &#34;nasalign[plots]&#34;" in page
    assert "<svg" not in page


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("reproduce table-1 --model MODEL", "plots"),
        ("align MODEL --data FILE --out RUN --judge openai:some", "judge"),
        ("diagnose MODEL --data FILE --quantize 8bit", "quant"),
    ],
)
def test_a_command_without_its_extra_says_how_to_get_it(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch, command: str, extra: str
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    told = refused(invoke(*(files.get(word, word) for word in command.split())))
    assert f'pip install "nasalign[{extra}]"' in told
