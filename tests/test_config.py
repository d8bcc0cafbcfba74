"""Settings: presets load, and every mistake in a file or in ``--set`` is named in one sentence."""

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from nasalign.config import (
    Settings,
    load_preset,
    parse_assignments,
    settings_from_file,
)
from nasalign.errors import NasAlignError

PRESETS = sorted((Path(__file__).parents[1] / "configs").glob("*.toml"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.toml"


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_loads_with_all_it_says(path: Path) -> None:
    read = tomllib.loads(path.read_text(encoding="utf-8"))
    said = {name: None if value == "none" else value for name, value in read.items()}
    settings = load_preset(path.stem).as_dict()
    assert len(said) > 10
    assert {name: settings[name] for name in said} == said


def test_the_paper_is_to_the_letter_and_what_is_taken_by_default_fits_itself() -> None:
    assert load_preset("paper") == Settings()
    for literal in (load_preset("paper"), load_preset("reproduction")):
        assert (literal.learning_rate, literal.line_search) == (1e-6, False)
    assert load_preset() == load_preset("fast")
    assert (load_preset().learning_rate, load_preset().line_search) == ("auto", True)


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(NasAlignError, match=r"nonesuch\.toml"):
        load_preset("nonesuch")


def test_a_file_changes_what_it_names_and_keeps_the_rest(file: Path) -> None:
    file.write_text('epochs = 4\nk_scope = "none"\nchat = true\nk = 20\nkl_weight = 2\n')
    base = Settings(rho=0.25, epochs=9)
    changed = settings_from_file(file, base)
    assert changed == Settings(rho=0.25, epochs=4, k_scope="none", chat=True, k=20, kl_weight=2.0)
    assert type(changed.kl_weight) is float
    assert base.epochs == 9


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("epoch = 4", r"no setting 'epoch'.*'epochs'"),
        ("[tuning]\nepochs = 4", r"no setting 'tuning'"),
        ("epochs = 4.0", r"epochs is 4\.0.* valid integer"),
        ("epochs = true", r"epochs is True.* valid integer"),
        ('rho = "0.5"', r"rho is '0\.5'.* valid number"),
        ("k = 0.5", r"k is 0\.5.* valid integer"),
        ("chat = 1", r"chat is 1.* valid boolean"),
        ("vocabulary = 1", r"vocabulary is 1.* valid string"),
        ("vocabulary = ['yes/no']", r"vocabulary is .* valid string"),
        ('decoder = "greedy"', r"decoder is 'greedy'.*logits.*generate"),
        ("k_scope = 1", r"k_scope is 1.*group.*none"),
        ('learning_rate = "high"', r"learning_rate is 'high'.* valid number or \"auto\""),
        ("line_search = 1", r"line_search is 1.* valid boolean"),
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
    ("name", "refused", "taken"),
    [
        ("epochs", (0,), 1),
        ("batch_size", (-1, 0), 1),
        ("k", (0,), 1),
        ("n", (-1,), 1),
        ("learning_rate", (0.0, float("nan"), 1e38), 1e30),
        ("consistency", (0.0, 1.01), 1.0),
        ("halting_share", (2.0, 0.0), 1.0),
        ("warmup_ratio", (1.0, -0.1), 0.0),
        ("rho", (float("inf"),), -1.0),
        ("shots", (-1,), 0),
        ("replay_gib", (-0.5,), 0.0),
        ("seed", (-1, 2**32), 2**32 - 1),
    ],
)
def test_the_range_of_a_setting(name: str, refused: tuple[Any, ...], taken: Any) -> None:
    assert Settings().replace({name: taken}).as_dict()[name] == taken
    for value in refused:
        for make in (lambda **one: Settings(**one), lambda **one: Settings().replace(one)):
            with pytest.raises(NasAlignError, match=rf"The setting {name} is .* must"):
                make(**{name: value})


@pytest.mark.parametrize("nothing", [None, "none"])
def test_only_an_optional_setting_can_be_unset(nothing: str | None) -> None:
    settings = Settings(k=5, n=6, chat=True).replace(dict.fromkeys(["k", "n", "chat"], nothing))
    assert (settings.k, settings.n, settings.chat) == (None, None, None)
    assert settings.replace(parse_assignments(["k_scope=none"])).k_scope == "none"
    with pytest.raises(NasAlignError, match=r"seed is .*none.* valid integer"):
        settings.replace({"seed": str(nothing).lower()})


def test_settings_are_values() -> None:
    settings = Settings(seed=3)
    assert {settings: 1}[Settings().replace({"seed": 3})] == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.seed = 4  # type: ignore[misc]
    with pytest.raises(NasAlignError, match="There is no setting 'sede'"):
        Settings(sede=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", ["\ud800", "se\udc80ed"])
def test_a_name_that_is_no_unicode_is_refused(name: str) -> None:
    with pytest.raises(NasAlignError, match="name of a setting is not valid Unicode"):
        Settings().replace(parse_assignments([f"{name}=1"]))


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


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("seed", "--set takes key=value, not 'seed'"),
        ("", "--set takes key=value, not ''"),
        ("seed:3", "--set takes key=value, not 'seed:3'"),
        ("seed=1\nk=2", "--set takes one line"),
        ("=3", "no setting ''"),
        ("seed=", "seed is ''"),
        ("seed=many", "seed is 'many'"),
        (f"seed={'9' * 5000}", "seed is"),
        (f"k={'9' * 30}", "k is a number of more than 18 digits, but it must be less than"),
        ("judge=gpt-4", "judge is 'gpt-4', but it must be match, self or openai:MODEL"),
        ("generator=openai:", "generator is 'openai:', but it must be rules, self or openai"),
    ],
)
def test_an_assignment_that_cannot_be_taken_is_named(text: str, sentence: str) -> None:
    with pytest.raises(NasAlignError, match=re.escape(sentence)) as caught:
        Settings().replace(parse_assignments([text]))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1500
