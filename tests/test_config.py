"""Settings: presets load, and every mistake in a file or in ``--set`` is named in one sentence."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from nasalign.config import (
    SMALL_MODEL_PARAMETERS,
    Settings,
    load_preset,
    parse_assignments,
    preset_name,
    settings_from_file,
)
from nasalign.errors import NasAlignError

PRESETS = sorted((Path(__file__).parents[1] / "configs").glob("*.toml"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.toml"


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_loads_with_all_it_says(path: Path) -> None:
    said = tomllib.loads(path.read_text(encoding="utf-8"))
    settings = load_preset(path.stem).as_dict()
    assert len(said) > 10
    assert {name: settings[name] for name in said} == said


def test_the_preset_of_the_paper_explains_every_setting() -> None:
    """The commented configuration is the manual: a setting may be commented out, but not absent."""
    text = next(path for path in PRESETS if path.stem == "paper-7b").read_text(encoding="utf-8")
    named = {line.lstrip("# ").partition(" ")[0] for line in text.splitlines() if " = " in line}
    assert set(Settings().as_dict()) - named <= {"shots"}


def test_the_preset_of_the_paper_is_the_default() -> None:
    assert load_preset("paper-7b") == Settings()


def test_the_preset_changes_at_a_billion_parameters() -> None:
    assert preset_name(SMALL_MODEL_PARAMETERS - 1) == "smollm2"
    assert preset_name(SMALL_MODEL_PARAMETERS) == "paper-7b"
    assert SMALL_MODEL_PARAMETERS == 1_000_000_000


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(NasAlignError, match=r"nonesuch\.toml"):
        load_preset("nonesuch")


def test_a_file_changes_what_it_names_and_keeps_the_rest(file: Path) -> None:
    file.write_text('epochs = 4\nk_scope = "none"\nchat = true\nk = 20\n')
    base = Settings(rho=0.25, epochs=9)
    expected = Settings(rho=0.25, epochs=4, k_scope="none", chat=True, k=20)
    assert settings_from_file(file, base) == expected
    assert base.epochs == 9


def test_a_whole_number_serves_as_a_fraction(file: Path) -> None:
    file.write_text("rho = 1\nlearning_rate = 2\n")
    settings = settings_from_file(file)
    assert (settings.rho, settings.learning_rate) == (1.0, 2.0)
    assert type(settings.rho) is float


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("epoch = 4", r"no setting 'epoch'.* epochs"),
        ("[tuning]\nepochs = 4", r"no setting 'tuning'"),
        ("epochs = 4.0", r"epochs takes int, not 4\.0"),
        ("epochs = true", r"epochs takes int, not True"),
        ('rho = "0.5"', r"rho takes float, not '0\.5'"),
        ("k = 0.5", r"k takes int, not 0\.5"),
        ("chat = 1", r"chat takes bool, not 1"),
        ("vocabulary = 1", r"vocabulary takes str, not 1"),
        ("vocabulary = ['yes/no']", r"vocabulary takes str"),
        ('decoder = "greedy"', r"decoder is 'greedy'.*logits.*generate"),
        ("k_scope = 1", r"k_scope is 1.*group.*none"),
        ("epochs = 4\nepochs = 5", r"not valid TOML"),
        ("epochs = ", r"not valid TOML"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_the_file(file: Path, text: str, sentence: str) -> None:
    file.write_text(text)
    with pytest.raises(NasAlignError, match=rf"mine\.toml\b.*{sentence}") as caught:
        settings_from_file(file)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_text_or_not_there_is_named(file: Path, tmp_path: Path) -> None:
    file.write_bytes(b"seed = 1 # \xff")
    with pytest.raises(NasAlignError, match=r"mine\.toml is not valid TOML"):
        settings_from_file(file)
    with pytest.raises(NasAlignError, match=r"Cannot read .*absent\.toml: No such file"):
        settings_from_file(tmp_path / "absent.toml")
    with pytest.raises(NasAlignError, match=r"Cannot read .*: Is a directory"):
        settings_from_file(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", -1),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("learning_rate", 1e38),
        ("k", 0),
        ("n", -1),
        ("consistency", 0.0),
        ("consistency", 1.01),
        ("halting_share", 2.0),
        ("warmup_ratio", 1.0),
        ("warmup_ratio", -0.1),
        ("shots", -1),
    ],
)
def test_a_value_out_of_range_is_refused(name: str, value: Any) -> None:
    for make in (lambda: Settings(**{name: value}), lambda: Settings().replace({name: value})):
        with pytest.raises(NasAlignError, match=rf"The setting {name} is .* must"):
            make()


@pytest.mark.parametrize(
    ("name", "value"), [("consistency", 1.0), ("warmup_ratio", 0.0), ("shots", 0), ("epochs", 1)]
)
def test_a_value_at_the_edge_of_its_range_is_taken(name: str, value: Any) -> None:
    assert Settings().replace({name: value}).as_dict()[name] == value


def test_only_an_optional_setting_can_be_unset() -> None:
    settings = Settings(k=5, n=6, chat=True).replace({"k": None, "n": None, "chat": None})
    assert (settings.k, settings.n, settings.chat) == (None, None, None)
    with pytest.raises(NasAlignError, match=r"seed takes int, not None"):
        settings.replace({"seed": None})


def test_the_word_none_unsets_an_optional_setting_and_only_that() -> None:
    changed = Settings(k=5).replace(parse_assignments(["k=none", "k_scope=none"]))
    assert changed.k is None
    assert changed.k_scope == "none"
    with pytest.raises(NasAlignError, match=r"seed takes int, not 'none'"):
        changed.replace(parse_assignments(["seed=none"]))


def test_assignments_are_read_as_toml_and_else_as_text() -> None:
    texts = ["seed=3", "rho = 0.25", "learning_rate=1e-4", "chat=false", "decoder=generate"]
    texts += ['instruction="A"', "vocabulary=true/false", "k_scope= none ", "x=a=b"]
    assert parse_assignments(texts) == {
        "seed": 3,
        "rho": 0.25,
        "learning_rate": 1e-4,
        "chat": False,
        "decoder": "generate",
        "instruction": "A",
        "vocabulary": "true/false",
        "k_scope": "none",
        "x": "a=b",
    }
    assert parse_assignments([]) == {}
    assert parse_assignments(["seed=1", "seed=2"]) == {"seed": 2}


@pytest.mark.parametrize("text", ["seed", "", "seed:3"])
def test_an_assignment_without_an_equals_sign_is_refused(text: str) -> None:
    with pytest.raises(NasAlignError, match=rf"--set takes key=value, not '{text}'"):
        parse_assignments([text])


@pytest.mark.parametrize("text", ["=3", "seed=", "seed=many"])
def test_an_assignment_without_a_name_or_a_number_is_refused(text: str) -> None:
    with pytest.raises(NasAlignError, match=r"setting"):
        Settings().replace(parse_assignments([text]))
