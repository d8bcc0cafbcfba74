"""Data sets beside each other: none is lost for its name, and none has what was tuned on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import jobs
from cases import DENIES, case
from nasalign.commands.align import align_job
from nasalign.commands.compare import compare_job
from nasalign.data.records import split_of
from nasalign.data.sources import load_data
from nasalign.errors import DataError, NasAlignError
from nasalign.io.files import read_json, read_jsonl, write_jsonl

QUICK = jobs.QUICK | {"epochs": 1, "n": 2, "consistency": 0.2, "side_effect_questions": 2}
QUICK |= {"sides": "one"}
WHY = "it is probed or tuned on"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A tiny model that denies what it says, and questions to it."""
    model, questions = case(tmp_path_factory.mktemp("world"), DENIES, questions=40)
    return str(model), questions


def statements(path: Path, word: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"question": f"Is {word}{n} a word?", "label": n > 1} for n in range(4)]
    if path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        write_jsonl(path, rows)
    return str(path)


def of_split(data: Path, split: str) -> set[str]:
    questions = load_data(str(data)).questions
    return {one.question for one in questions if split_of(one.subject) == split}


def test_no_data_set_is_lost_for_its_name(world: tuple[str, Path], tmp_path: Path) -> None:
    data = tmp_path / "x.jsonl"
    data.write_bytes(world[1].read_bytes())
    names = ("a/x-2.jsonl", "b/x.jsonl", "c/X.jsonl", "d/x-1.json", "e/caf\u00e9.jsonl")
    names += ("f/cafe\u0301.jsonl", "g/what?.jsonl", "h/what:.jsonl", "i/facts.jsonl")
    further = [statements(tmp_path / name, f"w{place}") for place, name in enumerate(names)]
    run = tmp_path / "run"
    align_job(jobs.make(world[0], data, folder=run, changes=QUICK, further=further))
    sets = read_json(run / "metrics.json")["datasets"]
    given = ["x", "x-2", "x-3", "X-4", "x-1", "caf\u00e9", "cafe\u0301-6"]
    assert list(sets) == [*given, "what?", "what:-8", "facts"]
    asked = []
    for name in list(sets)[1:]:
        for side in ("before", "after"):
            rows = read_jsonl(run / "eval" / f"{name}.{side}.jsonl")
            assert len(rows) == sets[name][side]["n"] == 4
        asked.append(rows[0]["question"])
    assert asked == [f"Is w{place}0 a word?" for place in range(len(names))]
    assert len(list((run / "eval").glob("*.after.jsonl"))) == 1 + len(names)
    assert read_json(run / "run.json")["further"] == further


def test_what_is_tuned_on_is_no_further_data(world: tuple[str, Path], tmp_path: Path) -> None:
    rows, probed = read_jsonl(world[1]), of_split(world[1], "probing")
    copy, run = tmp_path / "copy.jsonl", tmp_path / "run"
    write_jsonl(copy, [{**row, "subject": None} for row in reversed(rows)])
    job = jobs.make(world[0], world[1], folder=run, changes=QUICK, further=[copy])
    align_job(job)
    evaluated = {row["question"] for row in read_jsonl(run / "eval" / "copy.after.jsonl")}
    assert {row["question"] for row in read_jsonl(run / "probing.jsonl")} <= probed
    assert evaluated == {row["question"] for row in rows} - probed
    assert read_json(run / "run.json")["dropped"]["copy"] == {WHY: len(probed)}
    write_jsonl(copy, [row for row in rows if row["question"] in probed])
    again = jobs.again(job, tmp_path / "other")
    with pytest.raises(DataError, match=f"Of copy nothing is left to evaluate: .*{WHY}"):
        align_job(again)
    assert not (tmp_path / "other" / "run.json").exists()


def test_rows_are_compared_on_what_none_of_them_has_seen(
    world: tuple[str, Path], tmp_path: Path
) -> None:
    copy, run = tmp_path / "copy.jsonl", tmp_path / "run"
    write_jsonl(copy, list(reversed(read_jsonl(world[1]))))
    further = statements(tmp_path / "more.jsonl", "w")
    more = {"command": "compare", "further": [further], "changes": QUICK | {"split": "all"}}
    job = jobs.make(world[0], copy, probing_data=world[1], folder=run, **more)
    compare_job(job, ["untouched"])
    evaluated = {row["question"] for row in read_jsonl(run / "eval" / "copy.untouched.jsonl")}
    dropped = json.loads((run / "run.json").read_text())["dropped"]["copy"]
    assert evaluated <= of_split(world[1], "test")
    assert sum(dropped.values()) == 40 - len(evaluated)  # none is left out uncounted
    statements(tmp_path / "more.jsonl", "other")
    again = jobs.again(job, job.out.out, resume=True)
    with pytest.raises(NasAlignError, match=r"begun with another content of .*more\.jsonl"):
        compare_job(again, ["untouched"])


def test_nasa_plus_is_tuned_on_facts_too(world: tuple[str, Path], tmp_path: Path) -> None:
    facts = load_data("facts").questions
    copy = tmp_path / "copy.jsonl"
    write_jsonl(copy, [{"question": one.question, "answer": one.answer} for one in facts[:300]])
    given = jobs.make(world[0], copy, probing_data=world[1])
    tuned = {one.question for one in facts if split_of(one.subject) == "probing"}
    assert tuned & {record.question for record in given.splits().test}
    plus = replace(given, shortcuts={"method": "nasa+"}).splits()
    assert plus.test
    assert not tuned & {record.question for record in plus.test}
