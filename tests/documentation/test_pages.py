"""Pages that are written from the code say what the code says."""

import re
from importlib.metadata import version

import pytest

import nasalign
from nasalign.config import Settings
from nasalign.evaluation.metrics import LOW_COVERAGE
from pages import DOCS, ROOT, script


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    tested = [line for line in constraints if line.startswith("typer==")]
    if tested and tested != [f"typer=={version('typer')}"]:
        pytest.skip("another typer words the help differently")
    room = script("make_cli")
    written = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert written == room.page(), "run python docs/make_cli.py"


def test_every_public_name_is_in_the_reference() -> None:
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    for name in nasalign.__all__:
        real = getattr(nasalign, name)
        assert f"::: {real.__module__}.{name}\n" in text, name
        assert f"heading: nasalign.{name}\n" in text, name


def test_the_presets_and_the_page_of_settings_are_what_the_settings_say() -> None:
    room, run = script("make_settings"), "run python docs/make_settings.py"
    assert (DOCS / "settings.md").read_text(encoding="utf-8") == room.page(), run
    for preset in room.PRESETS:
        text = (ROOT / "configs" / f"{preset}.toml").read_text(encoding="utf-8")
        assert text == room.toml(preset), run
    for name in Settings().as_dict():
        assert f"\n| `{name}` | " in room.page()
        assert re.search(rf"^(# )?{name} = ", room.toml("paper"), re.MULTILINE), name


@pytest.mark.parametrize("page", ["evaluating.md", "own-prompt.md"])
def test_low_coverage_is_the_number_of_the_warning(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    assert re.findall(r"[Bb]elow (0\.\d+)", text)
    assert set(re.findall(r"[Bb]elow (0\.\d+)", text)) == {str(LOW_COVERAGE)}
