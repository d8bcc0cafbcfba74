"""What a command names is found, or it is said what is missing."""

from pathlib import Path

import pytest

import jobs
import tiny
import upstream
from nasalign.commands.job import Job, local_sources
from nasalign.commands.options import SettingOptions
from nasalign.config import load_preset
from nasalign.errors import DataError


def test_a_plain_source_is_for_the_one_named_data_set() -> None:
    assert local_sources(["a.json"], ["hotpotqa", None, "facts"]) == {"hotpotqa": [Path("a.json")]}
    assert local_sources(["a", "b"], ["ar-lsat"]) == {"ar-lsat": [Path("a"), Path("b")]}


def test_a_source_says_which_it_is_for_where_there_are_several() -> None:
    names = ["gsm8k", "hotpotqa"]
    given = ["gsm8k=a=b.jsonl", "hotpotqa=c.json"]
    assert local_sources(given, names) == {
        "gsm8k": [Path("a=b.jsonl")],
        "hotpotqa": [Path("c.json")],
    }
    with pytest.raises(DataError, match="say which of gsm8k, hotpotqa"):
        local_sources(["a.jsonl"], names)
    with pytest.raises(DataError, match="name one with --data"):
        local_sources(["a.jsonl"], ["facts", "mine.csv"])


def test_the_facts_are_probed_where_the_data_has_no_question(tmp_path: Path) -> None:
    sources = {"strategyqa": [upstream.write(tmp_path, "strategyqa")]}
    job = jobs.make(data="strategyqa", sources=sources)
    splits = job.splits()
    assert (splits.name, len(splits.test)) == ("strategyqa", 2)
    assert (splits.probing_name, splits.part) == ("facts", "all")
    assert job.run.facts["probing_data"] == "facts"
    assert job.run.facts["data_origin"].endswith("strategyqa.json")


def test_data_and_probing_data_may_differ(tmp_path: Path) -> None:
    sources = {name: [upstream.write(tmp_path, name)] for name in ("gsm8k", "hotpotqa")}
    job = jobs.make(data="gsm8k", probing_data="hotpotqa", sources=sources)
    splits = job.splits()
    assert (splits.name, splits.probing_name, splits.part) == ("gsm8k", "hotpotqa", "all")
    assert len(splits.test) == 2
    assert job.run.facts["dropped"] == {
        "gsm8k": {"no answer after ####": 1},
        "hotpotqa": {"its answer is a literal yes or no": 1},
    }


def test_examples_shown_are_never_evaluated(tmp_path: Path) -> None:
    sources = {"gsm8k-rephrased": [upstream.write(tmp_path, "gsm8k-rephrased")]}
    job = jobs.make(data="gsm8k-rephrased", sources=sources)
    assert job.splits(probed=False).part == "all"
    job = jobs.make(data="gsm8k-rephrased", sources=sources, changes={"shots": 2})
    splits = job.splits(probed=False)
    assert splits.part == "all"
    shown = {record.question for record in splits.shown}
    assert len(shown) == 4  # two for each, as some have no wrong answer
    assert not shown & {record.question for record in splits.test}


@pytest.mark.parametrize(
    ("given", "preset", "epochs"),
    [
        ({}, "fast", 4),
        ({"preset": "fast"}, "fast", 4),
        ({"preset": "paper"}, "paper", 30),
        ({"config": "mine.toml"}, "paper", 9),
        ({"config": "mine.toml", "preset": "fast"}, "fast", 9),
        ({"config": "mine.toml", "preset": "fast", "set_": ["epochs=2"]}, "fast", 2),
    ],
)
def test_a_preset_a_file_and_single_settings_lie_on_top_of_each_other(
    given: dict, preset: str, epochs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text("epochs = 9")
    options = given | ({"config": Path(given["config"])} if "config" in given else {})
    job = Job(str(tiny.save(tmp_path / "model", "llama")), settings=SettingOptions(**options))
    found = job.session().settings.replace({"date": None})
    assert found == load_preset(preset).replace({"epochs": epochs})
