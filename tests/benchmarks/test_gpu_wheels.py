"""What is brought to a machine without a network: pieces, limits, and what pip makes of them."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import gpu_wheels
import pieces
import wheel_set

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def cut(tmp_path: Path, size: int = 250, limit: int = 100) -> tuple[bytes, list[Path]]:
    """Cuts a file of that many bytes; returns its content and the folders with its pieces."""
    content = bytes(number % 251 for number in range(size))
    (tmp_path / "big.whl").write_bytes(content)
    return content, pieces.split(tmp_path / "big.whl", tmp_path / "gpu", "big", limit)


def wheel(folder: Path, name: str, version: str, *needs: str) -> Path:
    """Writes a wheel without code that needs others."""
    folder.mkdir(exist_ok=True)
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {need}" for need in needs)]
    text = "\n".join(["Metadata-Version: 2.1", *lines, ""])
    return wheel_set.metadata_wheel(folder, name, version, text.encode())


@pytest.mark.parametrize(("size", "count"), [(250, 3), (200, 2), (100, 1), (1, 1)])
def test_pieces_are_small_and_become_the_file_again(tmp_path: Path, size: int, count: int) -> None:
    cut(tmp_path, 450)  # none of these pieces is left
    content, folders = cut(tmp_path, size)
    names = [f"big-{n}" for n in range(1, count + 1)]
    assert [folder.name for folder in folders] == names
    assert sorted(folder.name for folder in (tmp_path / "gpu").iterdir()) == names
    sizes = [path.stat().st_size for folder in folders for path in folder.glob("*of*")]
    assert max(sizes) <= 100
    assert sum(sizes) == size
    for _ in range(2):  # also over an earlier result
        (whole,) = pieces.join(tmp_path / "gpu")
        assert whole.read_bytes() == content


def test_pieces_are_joined_by_the_standard_library_alone(tmp_path: Path) -> None:
    content, _ = cut(tmp_path)
    # -S: without site-packages.
    command = [sys.executable, "-S", "-E", str(BENCHMARKS / "gpu_wheels.py"), "join"]
    subprocess.run([*command, f"--folder={tmp_path / 'gpu'}"], check=True, capture_output=True)
    assert (tmp_path / "gpu" / "joined" / "big.whl").read_bytes() == content


def test_a_damaged_piece_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    _, folders = cut(tmp_path)
    pieces.join(tmp_path / "gpu")
    (folders[1] / "big.whl.2of3").write_bytes(b"x" * 100)
    with pytest.raises(SystemExit, match=r"big\.whl has the SHA-256 .* was expected"):
        pieces.join(tmp_path / "gpu")
    assert list((tmp_path / "gpu" / "joined").iterdir()) == []


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_piece_that_was_not_brought_is_named(tmp_path: Path, number: int) -> None:
    with pytest.raises(SystemExit, match="No pieces"):
        pieces.join(tmp_path)
    _, folders = cut(tmp_path)
    (folders[number] / f"big.whl.{number + 1}of3").unlink()
    with pytest.raises(SystemExit, match=rf"^big\.whl\.{number + 1}of3 is missing"):
        pieces.join(tmp_path / "gpu")


def test_a_folder_that_is_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 60)
    (tmp_path / "b").write_bytes(b"x" * 40)
    gpu_wheels.within_limit(tmp_path, 100)
    with pytest.raises(SystemExit, match="can be carried at once"):
        gpu_wheels.within_limit(tmp_path, 99)


LACKS = {"known>=2,<3": False, "known>=2.6": True, "unknown>=100": False, "other": True}
LACKS |= {"other; python_version < '3.11'": False, "other; sys_platform == 'win32'": False}
LACKS |= {"other; extra == 'plots'": False, "Known_>=3; python_version >= '3.12'": True}


@pytest.mark.parametrize("need", LACKS)
def test_what_the_machine_lacks(need: str) -> None:
    wheels = wheel_set.Wheels({"known": "2.5", "known-": "2.5", "unknown": None}, {})
    assert wheels.lacks(Requirement(need)) is LACKS[need]


def test_what_the_missing_needs_in_turn_is_brought_too(tmp_path: Path) -> None:
    class Index(wheel_set.Wheels):
        def download(self, folder: Path, packages: Iterable[str]) -> list[Path]:
            needs = {"first": ["Second_One>1", "here>=3"], "second-one": ["first", "there"]}
            return [wheel(folder, name, "5", *needs.get(name, [])) for name in packages]

    wheel(tmp_path, "left", "1")
    Index({"here": "2", "there": "1"}, {}).collect(tmp_path, [Requirement("first")], ["always"])
    found = {path.name.split("-")[0] for path in tmp_path.iterdir()}
    assert found == {"first", "second_one", "here", "always"}
    with pytest.raises(SystemExit, match=r"first is needed; .* constraints\.txt"):
        wheel_set.Wheels({}, {}).collect(tmp_path, [Requirement("first")], [])


def test_every_version_of_the_machine_is_known_or_pinned() -> None:
    pins = wheel_set.read_pins(wheel_set.PINS)
    machine = wheel_set.read_pins(wheel_set.MACHINE)
    assert all(version or pins[name] for name, version in machine.items())
    assert machine["torch"] == "2.11.0"


def test_pip_resolves_what_is_brought_with_what_is_there(tmp_path: Path) -> None:
    links = [tmp_path / "brought"]
    wheel(links[0], "main", "1", "first>=2", "there>=1", "hidden")
    wheel(links[0], "first", "2", "there<2")
    wheel(links[0], "hidden", "2")
    said = wheel_set.resolve("main", links, {"there": "1.5", "hidden": "3"})
    assert set(said.split()[2:]) == {"main-1", "first-2", "hidden-2", "there-1.5"}


@pytest.mark.parametrize(
    ("there", "first", "named"),
    [
        ("1.5", "", "first"),
        ("1.5", "1", "first>=2"),
        ("2.1", "2", "first 2 depends on there<2"),
        ("", "2", "there"),
    ],
)
def test_pip_finds_what_is_missing_or_out_of_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str, first: str, named: str
) -> None:
    for package in ("first", "there"):  # of a configuration of pip, which the machine has not
        wheel(tmp_path / "configured", package, "2", *["there<2"] * (package == "first"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "configured"))
    links = [tmp_path / "brought"]
    wheel(links[0], "main", "1", "first>=2", "there>=1")
    if first:
        wheel(links[0], "first", first, "there<2")
    with pytest.raises(SystemExit, match=named):
        wheel_set.resolve("main", links, {"there": there} if there else {})
