"""What ``import nasalign`` gives: typed names, and no torch before one is used."""

import subprocess
import sys
from pathlib import Path

import pytest

import nasalign


def test_importing_takes_no_torch() -> None:
    code = (
        "import sys, nasalign, nasalign.config; nasalign.Settings(); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_every_name_is_there_and_no_other() -> None:
    assert {name for name in nasalign.__all__ if getattr(nasalign, name)} == set(nasalign._MODULES)
    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        _ = nasalign.nonesuch


def test_dir_is_the_api() -> None:
    assert dir(nasalign) == sorted([*nasalign.__all__, "__version__"])


@pytest.mark.long
def test_a_type_checker_sees_the_types(tmp_path: Path) -> None:
    api = pytest.importorskip("mypy.api")
    root = Path(__file__).parents[1]
    program = tmp_path / "program.py"
    names = "\n".join(f"reveal_type(nasalign.{name})" for name in nasalign.__all__)
    program.write_text(
        f"import nasalign\n{names}\nnasalign.Settings(epochs='4')\nnasalign.nonesuch\n"
    )
    config = ["--config-file", str(root / "pyproject.toml"), "--cache-dir", str(tmp_path / "cache")]
    said, _, _ = api.run([*config, str(program)])
    assert said.count("Revealed type is") == len(nasalign.__all__)
    assert 'Revealed type is "Any"' not in said
    assert 'incompatible type "str"; expected "int"' in said
    assert 'Module has no attribute "nonesuch"' in said
