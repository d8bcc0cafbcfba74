"""Pages that are written from the code say what the code says."""

from importlib.metadata import version

import pytest

import nasalign
from nasalign.config import Settings
from pages import DOCS, ROOT, script


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    tested = [line for line in constraints() if line.startswith("typer==")]
    if tested and tested != [f"typer=={version('typer')}"]:
        pytest.skip("another typer words the help differently")
    room = script("make_cli")
    written = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert written == room.page(), "run python docs/make_cli.py"


def constraints() -> list[str]:
    return (ROOT / "constraints.txt").read_text(encoding="utf-8").split()


def test_every_public_name_is_in_the_reference() -> None:
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    for name in nasalign.__all__:
        real = getattr(nasalign, name)
        assert f"::: {real.__module__}.{name}\n" in text, name
        assert f"heading: nasalign.{name}\n" in text, name


def test_the_preset_on_the_page_of_settings_explains_every_setting() -> None:
    text = (DOCS / "settings.md").read_text(encoding="utf-8")
    for preset in ("paper-7b", "smollm2"):
        assert f'--8<-- "configs/{preset}.toml"' in text
    explained = (ROOT / "configs" / "paper-7b.toml").read_text(encoding="utf-8")
    for name in Settings().as_dict():
        assert f"\n{name} = " in explained or f"\n# {name} = " in explained, name
