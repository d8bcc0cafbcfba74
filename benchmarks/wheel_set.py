"""Which wheels a machine lacks, and whether pip finds that they are enough.

Packages that the machine has stand in pip's resolution as wheels of a name and a version alone.
"""

import os
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.parser import BytesParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from pieces import join

ROOT = Path(__file__).parents[1]
MACHINE, PINS = ROOT / "benchmarks" / "gpu_machine.txt", ROOT / "constraints.txt"
# pip takes a platform at its word: it does not go on to older ones by itself.
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)] + ["manylinux2014_x86_64"]
TARGET = ["--only-binary=:all:", "--python-version=3.12", "--implementation=cp"]
TARGET += [f"--platform={platform}" for platform in PLATFORMS]
MARKERS = {
    "python_version": "3.12",
    "python_full_version": "3.12.3",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
    "os_name": "posix",
    "extra": "",
}
BUILD = "import sys; from hatchling import build; build.build_wheel(sys.argv[1])"


def read_pins(path: Path) -> dict[str, str | None]:
    """Reads lines of ``name==version``; None for a name without a version."""
    pins: dict[str, str | None] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            package, _, version = line.partition("==")
            pins[canonicalize_name(package)] = version or None
    return pins


def requirements_of_project() -> list[Requirement]:
    """Returns what nasalign needs without extras."""
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [Requirement(line) for line in about["project"]["dependencies"]]


def name_of(wheel: Path) -> str:
    """Returns the normalised name of a wheel's package."""
    return parse_wheel_filename(wheel.name)[0]


def metadata_of(wheel: Path) -> bytes:
    """Returns a wheel's metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(next(n for n in archive.namelist() if n.endswith("info/METADATA")))


def requirements_of(wheel: Path) -> list[Requirement]:
    """Returns what a wheel needs; the marker says of which extra."""
    lines = BytesParser().parsebytes(metadata_of(wheel)).get_all("Requires-Dist", [])
    return [Requirement(line) for line in lines]


def pip(*arguments: str, **environment: str) -> str:
    """Runs pip and returns what it prints.

    Raises:
        SystemExit: pip fails; its message is in it.
    """
    command = [sys.executable, "-P", "-m", "pip", *arguments]
    own = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    env = {**own, **environment} if environment else None
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode != 0:
        raise SystemExit(f"pip {arguments[0]} failed:\n{done.stdout}{done.stderr.strip()}")
    return done.stdout


@dataclass(frozen=True)
class Wheels:
    """What is brought to a machine.

    Attributes:
        machine: versions of what it has; None where a version is not known.
        pins: versions to bring.
    """

    machine: Mapping[str, str | None]
    pins: Mapping[str, str | None]

    def download(self, folder: Path, packages: Iterable[str]) -> list[Path]:
        """Downloads packages alone, in the pinned version unless a requirement is given.

        Raises:
            SystemExit: a package has no pin, or pip fails.
        """
        wanted = []
        for package in packages:
            if "==" not in package and not self.pins.get(package):
                raise SystemExit(f"{package} is needed; give its version in constraints.txt.")
            wanted.append(package if "==" in package else f"{package}=={self.pins[package]}")
        if wanted:
            pip("download", "--quiet", "--no-deps", *TARGET, f"--dest={folder}", *wanted)
        names = {canonicalize_name(Requirement(line).name) for line in wanted}
        return [path for path in sorted(folder.glob("*.whl")) if name_of(path) in names]

    def lacks(self, requirement: Requirement) -> bool:
        """Says whether a package must be brought for a requirement to hold there."""
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate(MARKERS):
            return False
        if name not in self.machine:
            return True
        version = self.machine[name]
        return version is not None and not requirement.specifier.contains(version)

    def collect(self, folder: Path, needs: list[Requirement], always: list[str]) -> None:
        """Fills a folder with what the machine lacks, and with what that needs in turn."""
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.whl"):
            old.unlink()
        known: set[str] = set()
        wanted = {*always, *(canonicalize_name(need.name) for need in needs if self.lacks(need))}
        while wanted:
            fetched = self.download(folder, sorted(wanted))
            known |= wanted
            needs = [need for path in fetched for need in requirements_of(path)]
            wanted = {canonicalize_name(need.name) for need in needs if self.lacks(need)} - known


def metadata_wheel(folder: Path, name: str, version: str, metadata: bytes = b"") -> Path:
    """Writes a wheel without any code; its metadata are a name and a version unless given."""
    stem = f"{name.replace('-', '_')}-{version}"
    path, about = folder / f"{stem}-py3-none-any.whl", f"{stem}.dist-info"
    least = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{about}/METADATA", metadata or least)
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return path


def build_project(folder: Path) -> Path:
    """Builds nasalign's wheel."""
    command = [sys.executable, "-P", "-c", BUILD, str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("nasalign-*.whl")
    return wheel


def add_own_metadata(folder: Path) -> None:
    """Adds nasalign's metadata: it asks for its version, and its code is run from a checkout."""
    with tempfile.TemporaryDirectory() as temporary:
        wheel = build_project(Path(temporary))
        _, version, _, _ = parse_wheel_filename(wheel.name)
        metadata_wheel(folder, "nasalign", str(version), metadata_of(wheel))


def resolve(wanted: str, links: list[Path], present: Mapping[str, str]) -> str:
    """Lets pip resolve a requirement from folders and from what is present, without an index.

    A wheel in the folders hides what is present under its name, as it will on the machine.

    Returns:
        pip's line with the packages it would install.

    Raises:
        SystemExit: something is missing, or a version is out of a range.
    """
    brought = {name_of(wheel) for link in links for wheel in link.glob("*.whl")}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, version in present.items():
            if name not in brought:
                metadata_wheel(folder, name, version)
        found = [f"--find-links={link}" for link in [*links, folder]]
        # Without a configuration: its own links could hold what is missing here.
        said = pip(
            *("install", "--dry-run", "--ignore-installed", "--no-index", *found, *TARGET),
            *(f"--target={folder / 'none'}", "--disable-pip-version-check", wanted),
            PIP_CONFIG_FILE=os.devnull,
        )
    return said.strip().splitlines()[-1]


def check(folder: Path) -> None:
    """Resolves nasalign and bitsandbytes for the machine from what was collected.

    Raises:
        SystemExit: that is not possible.
    """
    pins = read_pins(PINS)
    machine = read_pins(MACHINE)
    present = {name: version or pins[name] or "" for name, version in machine.items()}
    (joined,) = {path.parent for path in join(folder)}
    with tempfile.TemporaryDirectory() as temporary:
        wheel = build_project(Path(temporary))
        print(resolve(f"{wheel}[quant]", [folder / "wheels", joined], present))
    print("pip resolves nasalign[quant] for Python 3.12 on that machine.")
