"""The paper's tables and figures for a tiny model: all are made, from what is measured once."""

import csv
import gc
import json
import shutil
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from transformers import PreTrainedModel

import tiny
import upstream
from cases import known_rows, sets
from fake_endpoint import completion, serving
from fault_tools import done, invoke, python, refused
from nasalign.commands import job as job_room
from nasalign.data.records import BinaryExample
from nasalign.data.splits import Splits
from nasalign.errors import DataError, NasAlignError
from nasalign.io.files import read_jsonl
from nasalign.io.storage import seal
from nasalign.reproduction import sampled as sampled_room
from nasalign.reproduction.paper_sets import PAPER_SETS, paper_sets
from nasalign.reproduction.reproduce import ITEMS, chosen_items
from nasalign.session import Session

CONFIGS = Path(__file__).parents[2] / "configs"
QUICK = {
    "bootstrap_samples": 40,
    "answer_tokens": 6,
    "n": 3,
    "k": 8,
    "epochs": 1,
    "learning_rate": 1e-2,
    "rho": -100.0,
    "consistency": 0.5,
    "min_true_positives": 1,
}


@dataclass(frozen=True)
class World:
    """A model and the data that it is measured on."""

    model: str
    data: Path
    folder: Path

    def run(self, *names: str, changes: dict[str, object] | None = None) -> Result:
        given = ["reproduce", *names, "--model", self.model, "--data-dir", str(self.data)]
        given += ["--out", str(self.folder), "--limit", "12"]
        settings = QUICK | (changes or {})
        return invoke(*given, *sets(f"{key}={value}" for key, value in settings.items()))


def more_rows(name: str) -> list[dict[str, object]]:
    """Rows enough to show four of them (Table 7) and ask about the others."""
    if name == "strategyqa":
        return [
            {"qid": f"b{n}", "question": f"Is {n} odd?", "answer": n % 2 == 1, "facts": []}
            for n in range(10)
        ]
    if name == "gsm8k":
        return [{"question": f"{n} and {n}?", "answer": f"#### {2 * n}"} for n in range(11, 25)]
    if name == "ar-lsat":
        return [
            {"id": f"q{n}", "passage": f"Only word{n} sits."}
            | {"questions": [{"id": f"q{n}_1", "question": f"Who is near word{n}?", "answer": "A"}
               | {"options": [f"word{n}", "nobody"]}]}
            for n in range(12)
        ]  # fmt: skip
    return []


def write_rows(folder: Path, name: str) -> Path:
    """The rows of ``upstream`` with more of their kind."""
    path = upstream.write(folder, name)
    rows = [*upstream.FILES[name], *more_rows(name)]
    lines = path.suffix == ".jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows))
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A tiny Llama that knows what the probing data asks, since its own answers are in it."""
    root = tmp_path_factory.mktemp("world")
    tokenizer = tiny.build_tokenizer()
    model = tiny.build_model("llama", seed=3)
    model.save_pretrained(root / "tiny")
    tokenizer.save_pretrained(root / "tiny")
    data = root / "data"
    data.mkdir()
    (data / "hotpotqa_dev.json").write_text(json.dumps(known_rows(model, tokenizer)))
    names = {"strategyqa": "strategyqa_train", "musique": "musique_ans_dev", "gsm8k": "gsm8k_test"}
    for name in ("strategyqa", "musique", "gsm8k", "math", "ar-lsat"):
        written = write_rows(root, name)
        plain = names.get(name, name.replace("-", "_"))
        written.rename(data / f"{plain}{written.suffix}")
    return World(str(root / "tiny"), data, root / "out")


def table(world: World, name: str) -> list[dict[str, str]]:
    with (world.folder / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def watch_loads(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[PreTrainedModel]]:
    """The models that are loaded from now on; each must be gone before the next one."""
    loaded: list[weakref.ref[PreTrainedModel]] = []
    load = job_room.load

    def counted(*given: Any, **options: Any) -> Any:
        gc.collect()
        assert not [one for one in loaded if one()], "the model before is still in memory"
        found = load(*given, **options)
        loaded.append(weakref.ref(found[0]))
        return found

    monkeypatch.setattr(job_room, "load", counted)
    return loaded


def share_of_right(said: list[dict[str, object]]) -> float:
    words = {True: "positive", False: "negative"}
    return sum(one["verdict"] == words[bool(one["label"])] for one in said) / len(said)


def test_everything_is_made_and_a_second_run_measures_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: dict[str, list[BinaryExample]] = {}
    real = sampled_room.few_shots

    def noted(session: Session, splits: Splits) -> list[BinaryExample]:
        shown[splits.name] = real(session, splits)
        return shown[splits.name]

    monkeypatch.setattr(sampled_room, "few_shots", noted)
    result = world.run("all")
    assert result.exit_code == 0, result.output
    assert set(shown) == {"strategyqa", "gsm8k", "ar-lsat"}  # the tasks of Table 7 themselves
    for name, examples in shown.items():
        assert sorted(one.known_label for one in examples) == [False, False, True, True]
        set_name = f"{name}-rephrased" if name == "gsm8k" else name
        for wording in ("plain", "4-shot"):
            (rows,) = world.folder.rglob(f"untouched/{set_name}.{wording}.jsonl")
            asked = {row["question"] for row in read_jsonl(rows)}
            assert not asked & {one.question for one in examples}
    page = (world.folder / "reproduction.html").read_text()
    for name in ITEMS:
        assert f'<section id="{name}">' in page
        assert {row["source"] for row in table(world, name)} >= {"ours"}, name
        pictures = list(world.folder.glob(f"{name}-*.svg")) + list(world.folder.glob(f"{name}.svg"))
        assert bool(pictures) == name.startswith("figure")
        for picture in pictures:
            assert picture.read_text().count("<path") > 3, picture
            assert picture.with_suffix(".png").stat().st_size > 1000
    first = {path.name: path.read_bytes() for path in world.folder.glob("*.csv")}

    def refuse(*given: object, **options: object) -> None:
        raise AssertionError("nothing is to be measured again")

    monkeypatch.setattr(job_room, "load", refuse)  # the model is not even loaded
    again = world.run("all")
    assert again.exit_code == 0, again.output
    assert {path.name: path.read_bytes() for path in world.folder.glob("*.csv")} == first


def test_main_results_are_those_of_the_answers(world: World) -> None:
    assert world.run("table-3").exit_code == 0
    rows = table(world, "table-3")
    ours = [row for row in rows if row["source"] == "ours"]
    assert [(row["dataset"], row["method"]) for row in ours] == [
        (name, method) for name in ("strategyqa", "musique") for method in ("baseline", "NASA")
    ]
    for row in ours:
        side = {"baseline": "untouched", "NASA": "nasa"}[row["method"]]
        said = read_jsonl(world.folder / "tiny" / side / f"{row['dataset']}.plain.jsonl")
        assert float(row["accuracy"]) == pytest.approx(share_of_right(said))
        nas = [one["nas"] for one in said]
        assert float(row["nas"]) == pytest.approx(sum(nas) / len(nas))
        assert float(row["accuracy_low"]) <= float(row["accuracy"]) <= float(row["accuracy_high"])
    paper = [row for row in rows if row["source"] == "paper"]
    assert len(paper) == 16


def test_stand_ins_are_named_and_missing_data_is_said(world: World, tmp_path: Path) -> None:
    found = paper_sets(world.data)
    stand_ins = {"gsm8k-rephrased": "gsm8k", "math-rephrased": "math"}
    assert {name: found[name].data for name in PAPER_SETS} == {
        name: stand_ins.get(name, name) for name in PAPER_SETS
    }
    assert "gsm8k stands in for gsm8k-rephrased" in (
        world.run("table-8").output and (world.folder / "reproduction.html").read_text()
    )
    assert all(row["n"] == row["total"] for row in table(world, "table-8")[: len(PAPER_SETS)])
    with pytest.raises(DataError, match="has no file of strategyqa"):
        paper_sets(tmp_path)
    with pytest.raises(DataError, match="There is no folder"):
        paper_sets(tmp_path / "none")


def test_another_setting_is_refused_where_something_was_measured(world: World) -> None:
    assert world.run("table-8").exit_code == 0
    assert "another setting n" in refused(world.run("table-8", changes={"n": 2}))


def test_names_are_taken_as_people_write_them() -> None:
    assert chosen_items(["Table 3", "table3", "FIGURE-5"]) == ["table-3", "figure-5"]
    assert chosen_items(["all"]) == list(ITEMS)
    with pytest.raises(NasAlignError, match="no 'table 12'"):
        chosen_items(["table 12"])


def test_random_heads_are_as_many_and_others_each_time(world: World) -> None:
    assert world.run("table-20").exit_code == 0
    tuned = {
        side: json.loads((world.folder / "tiny" / side / "tuned.json").read_text())["heads"]
        for side in ("nasa", "random-0", "random-1", "random-2")
    }
    assert len({len(heads) for heads in tuned.values()}) == 1
    distinct = {str(sorted(heads)) for heads in tuned.values()}
    assert len(distinct) >= 3  # two may be the same by chance
    ours = [row for row in table(world, "table-20") if row["source"] == "ours"]
    for row in ours:
        if row["method"] != "random attention heads":
            continue
        shares = []
        for side in ("random-0", "random-1", "random-2"):
            said = read_jsonl(world.folder / "tiny" / side / f"{row['dataset']}.plain.jsonl")
            shares.append(share_of_right(said))
        assert float(row["accuracy"]) == pytest.approx(sum(shares) / 3)
    assert sum(row["method"] == "random attention heads" for row in ours) == len(PAPER_SETS)


def test_query_rows_alone_leave_the_keys(world: World) -> None:
    assert world.run("table-19").exit_code == 0
    moved = {}
    for side in ("nasa", "query-only"):
        config = world.folder / "tiny" / side / "adapter" / "adapter_config.json"
        modules = json.loads(config.read_text())["target_modules"]
        moved[side] = {name.rpartition(".")[2] for name in modules}
    assert moved == {"nasa": {"q_proj", "k_proj"}, "query-only": {"q_proj"}}
    assert "query-only: 2 of 3 heads kept" in (world.folder / "reproduction.html").read_text()


def test_several_models_stand_in_one_table(world: World, tmp_path: Path) -> None:
    other = tmp_path / "other"
    tiny.save(other, "qwen2", seed=1)
    given = ["reproduce", "table-9", "figure-1", "--model", world.model, "--model", str(other)]
    given += ["--data-dir", str(world.data), "--out", str(tmp_path / "out"), "--limit", "6"]
    result = done(*given, "--set", "bootstrap_samples=20")
    assert "corrected for 2 models" in result.output
    both = World(world.model, world.data, tmp_path / "out")
    ours = [row["model"] for row in table(both, "table-9") if row["source"] == "ours"]
    assert ours == ["tiny", "other"]
    twice = refused(invoke(*given, "--model", world.model))
    assert "the same name: tiny, other, tiny" in twice


@pytest.mark.long
def test_one_model_is_in_memory_at_a_time_and_one_that_fails_is_said(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.save(tmp_path / "other", "qwen2", seed=1)
    loaded = watch_loads(monkeypatch)
    given = ["reproduce", "table-1", "figure-5", "--model", world.model, "--model", "nowhere"]
    given += ["--model", str(tmp_path / "other"), "--data-dir", str(world.data), "--limit", "6"]
    settings = sets(f"{key}={value}" for key, value in QUICK.items())
    result = invoke(*given, "--out", str(tmp_path / "out"), *settings)
    assert result.exit_code == 2
    assert "table-1 cannot be made of nowhere: There is no model 'nowhere'" in " ".join(
        result.output.split()
    )
    both = World(world.model, world.data, tmp_path / "out")
    ours = [row["model"] for row in table(both, "table-1") if row["source"] == "ours"]
    assert ours == ["tiny", "other"]
    page = (tmp_path / "out" / "reproduction.html").read_text()
    assert "Missing is nowhere: There is no model" in page
    assert len(loaded) == 2


@pytest.mark.long
def test_other_weights_or_answers_are_not_taken_for_those_that_were_measured(
    world: World, tmp_path: Path
) -> None:
    model = tiny.save(tmp_path / "mine", "llama", seed=3)
    mine = World(str(model), world.data, tmp_path / "out")
    assert mine.run("table-8").exit_code == 0
    copied = {path: path.read_bytes() for path in model.iterdir()}
    for path, content in copied.items():  # a copy: new times, the same weights
        path.write_bytes(content)
    assert mine.run("table-8").exit_code == 0
    assert mine.run("table-16").exit_code == 0
    answers = tmp_path / "out" / "mine" / "untouched" / "musique.free.jsonl"
    answers.write_text(answers.read_text().replace('"question": "', '"question": "Other: ', 1))
    seal(answers)
    assert "other examples of parametric.jsonl (row 1" in refused(mine.run("table-16"))
    tiny.save(model, "llama", seed=4)
    assert "begun with another model" in refused(mine.run("table-8"))


def test_the_studies_take_a_sample_of_each_domain(world: World) -> None:
    assert world.run("table-1", changes={"study_questions": 5}).exit_code == 2  # measured otherwise
    other = World(world.model, world.data, world.folder.parent / "sampled")
    assert other.run("table-1", "table-8", changes={"study_questions": 5}).exit_code == 0
    [ours] = [row for row in table(other, "table-1") if row["source"] == "ours"]
    assert ours["n"] == "15"
    sizes = {row["dataset"]: row["total"] for row in table(other, "table-8")}
    assert sizes["strategyqa"] != "15"


def test_a_model_of_an_endpoint_is_asked_once(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NASALIGN_CACHE", str(tmp_path / "cache"))
    mine = World(world.model, world.data, tmp_path / "out")
    given = ["reproduce", "figure-1", "--model", mine.model, "--data-dir", str(mine.data)]
    given += ["--out", str(mine.folder), "--limit", "6", *sets(["bootstrap_samples=20"])]
    assert done(*given).exit_code == 0
    with serving() as fake:
        monkeypatch.setenv("OPENAI_BASE_URL", fake.url)
        fake.reply = lambda request: completion("Yes")
        given += ["--endpoint-model", "openai:gpt-4"]  # what was measured before is used
        assert "gpt-4 is asked Prompt I" in done(*given).output.replace("\n", " ")
        rows = [row for row in table(mine, "figure-1") if row["model"] == "gpt-4"]
        assert [row["dataset"] for row in rows] == list(PAPER_SETS)
        assert {row["recall"] for row in rows} == {"1.0"}
        assert len(fake.asked) == sum(int(row["n"]) for row in rows)
        assert {one["messages"][0]["role"] for one in fake.asked} == {"user"}
        done(*given)
        assert len(fake.asked) == sum(int(row["n"]) for row in rows)


@pytest.mark.long
@pytest.mark.slow
def test_two_processes_make_what_one_makes(world: World, tmp_path: Path) -> None:
    """They score, tune and evaluate together; then they go on with what one has measured."""
    alone = world.run("table-1", "table-3", "table-5")
    assert alone.exit_code == 0, alone.output
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "nasalign"]
    given = ["reproduce", "table-1", "table-3", "table-5", "--model", world.model]
    given += ["--data-dir", str(world.data), "--limit", "12"]
    settings = sets(f"{key}={value}" for key, value in QUICK.items())
    copied = tmp_path / "copied"
    shutil.copytree(world.folder, copied)
    for path in (copied / "tiny" / "nasa").glob("*.jsonl*"):
        path.unlink()
    for out in (tmp_path / "new", copied):
        both = python(*launch, *given, *settings, "--out", str(out))
        assert both.returncode == 0, both.stderr[-3000:]
        for name in ("table-1", "table-3", "table-5"):
            found = table(World(world.model, world.data, out), name)
            for one, other in zip(table(world, name), found, strict=True):
                for key, value in one.items():
                    same = value == other[key]
                    assert same or float(other[key]) == pytest.approx(float(value), rel=1e-4)


def test_what_cannot_be_made_is_said_and_the_rest_is_made(world: World, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(world.data, data)
    unknown = [
        {"question": f"Who is {n}?", "answer": f"Zyx{n}q", "type": "bridge"} for n in "abcdef"
    ]
    (data / "hotpotqa_dev.json").write_text(json.dumps(unknown))
    ignorant = World(world.model, data, tmp_path / "out")
    said = refused(ignorant.run("table-1", "table-3", "table-8"))
    assert "table-3 cannot be made of tiny: The model answers none" in said
    page = (ignorant.folder / "reproduction.html").read_text()
    assert "Table 3 (not made)" in page
    assert {path.name for path in ignorant.folder.glob("*.csv")} == {"table-1.csv", "table-8.csv"}


def test_data_that_has_changed_is_not_gone_on_with(world: World, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(world.data, data)
    mine = World(world.model, data, tmp_path / "out")
    assert mine.run("table-8").exit_code == 0
    path = next(data.glob("strategyqa*"))
    path.write_text(path.read_text().replace("?", "??", 1))
    assert "was begun with another content of strategyqa" in refused(mine.run("table-8"))


def reply_as_gpt_4(request: dict[str, Any]) -> tuple[int, Any]:
    """What a model says to the prompts of Tables 13 and 15, and to Prompt I."""
    system, said = request["messages"][0], request["messages"][-1]["content"]
    odd = sum(said.encode()) % 2
    if "same meaning" in system["content"]:
        return completion("Yes" if odd else "No.")
    if "wrong answer" in system["content"]:
        return completion(f"Something else {odd}")
    if "Yes-No question" in system["content"]:
        return completion(f"Is it so that {said.split('Answer: ')[1].splitlines()[0]}?")
    return completion("Yes" if odd else "No")


@pytest.mark.long
def test_the_whole_protocol_with_four_models_and_an_endpoint(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [tiny.save(tmp_path / one, one) for one in ("llama", "mistral", "gemma", "qwen2")]
    monkeypatch.setenv("NASALIGN_CACHE", str(tmp_path / "cache"))
    given = [
        "reproduce",
        "--config",
        str(CONFIGS / "reproduction.toml"),
        "--data-dir",
        str(world.data),
    ]
    given += [part for model in models for part in ("--model", str(model))]
    few = ("probing_questions=24", "bootstrap_samples=20", "free_answer_tokens=8", "epochs=1")
    given += [*sets(few), "--out", str(tmp_path / "out")]
    loads = watch_loads(monkeypatch)
    with serving() as fake:
        monkeypatch.setenv("OPENAI_BASE_URL", fake.url)
        fake.reply = reply_as_gpt_4
        done(*given, "table-1", "--limit", "4")
        assert len(loads) == 4
        first = len(fake.asked)
        done(*given, "all", "--limit", "4")
        assert len(loads) == 8
        asked = len(fake.asked)
        assert asked > first > 0
        assert len({json.dumps(one["messages"]) for one in fake.asked}) == asked  # none asked twice
        told = done(*given, "all", "--limit", "4").output
        assert (len(loads), len(fake.asked)) == (8, asked)
    four = World("", world.data, tmp_path / "out")
    for name in ITEMS:
        rows = [row for row in table(four, name) if row["source"] == "ours"]
        if name not in ("table-8", "figure-6", "figure-7"):
            assert {row["model"] for row in rows} >= {model.name for model in models}, name
        assert "cannot be made" not in told
    for name in ("table-3", "table-4", "table-5", "table-11"):
        sizes = {row["n"] for row in table(four, name) if row["source"] == "ours"}
        assert max(map(int, sizes)) == 4, name  # the limit is that of every set
