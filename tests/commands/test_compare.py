"""The comparison of rows: its figures, what fails in it, and how it goes on."""

import json
import math
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from rich.console import Console
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score
from transformers import PreTrainedModel

import jobs
import nasalign
from cases import AFFIRMS, DENIES, case, sets
from fault_tools import Stop, invoke, refused
from jobs import QUICK
from nasalign.commands import compare as room
from nasalign.commands.align import align_job
from nasalign.commands.compare import compare_job
from nasalign.commands.job import Job
from nasalign.data.records import BinaryExample, split_of
from nasalign.errors import ModelError, NasAlignError
from nasalign.evaluation.evaluation import Evaluation
from nasalign.io.files import read_jsonl
from nasalign.io.storage import seal
from nasalign.io.storage import whole as whole_file
from nasalign.models.loading import load
from nasalign.reporting.comparison_table import print_comparison
from nasalign.rivals import row as row_room
from nasalign.rivals.all import RIVALS
from nasalign.rivals.baselines import NASA, RANDOM, UNTOUCHED
from nasalign.rivals.rival import Fitted, Material, Rival, balanced_accuracy, odds_of
from nasalign.rivals.steering import STEERING

seen: list[Material] = []


def threshold(material: Material) -> Fitted:
    """Says Yes above the log odds that are best on the development split."""
    seen.append(material)
    odds = odds_of(material.scores(material.development))
    at = max(odds.tolist(), key=lambda cut: balanced_accuracy(odds - cut, material.development))

    def adjusted(evaluation: Evaluation) -> Evaluation:
        scores = evaluation.scores
        says = (odds_of(scores) > at).tolist()
        verdicts = ["positive" if yes else "negative" for yes in says]
        return Evaluation(evaluation.examples, replace(scores, verdicts=verdicts))

    return Fitted(adjusted=adjusted, parameters=1, chosen={"threshold": at})


def doubled(material: Material) -> Fitted:
    """Doubles what the first layer's attention puts out."""

    @contextmanager
    def on(model: PreTrainedModel) -> Iterator[None]:
        module = model.get_submodule("model.layers.0.self_attn")
        hook = module.register_forward_hook(lambda _, __, out: (2 * out[0], *out[1:]))
        try:
            yield
        finally:
            hook.remove()

    return Fitted(on=on, shots=material.shots, changes={"instruction": "A"})


def fails(_: Material) -> Fitted:
    raise ModelError("This needs a package that is not here.")


THRESHOLD = Rival("threshold", "threshold", "a threshold", True, threshold)
DOUBLED = Rival("doubled", "attention doubled", "a hook", False, doubled)
FAILS = Rival("fails", "what fails", "luck", False, fails)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (UNTOUCHED, THRESHOLD, DOUBLED, FAILS, RANDOM, NASA)
    monkeypatch.setattr(room, "RIVALS", rows)
    monkeypatch.setattr("nasalign.commands.early.ROWS", tuple(row.name for row in rows))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A tiny model that denies what it says, questions to it, and yes/no questions."""
    folder = tmp_path_factory.mktemp("world")
    model, data = case(folder, DENIES, questions=80)
    further = folder / "=more.jsonl"
    rows = [{"question": f"Is word{n} a word?", "label": n % 3 > 0} for n in range(12)]
    further.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return model, data, further


def job_of(world: tuple[Path, Path, Path], folder: Path | None, **more: Any) -> Job:
    more.setdefault("command", "compare")
    changes = QUICK | more.pop("changes", {})
    return jobs.make(world[0], world[1], folder=folder, changes=changes, **more)


ROWS = ["untouched", "threshold", "doubled", "nasa"]


@pytest.fixture(scope="module")
def made(
    world: tuple[Path, Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A finished comparison."""
    folder = tmp_path_factory.mktemp("made") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "RIVALS", (UNTOUCHED, THRESHOLD, DOUBLED, FAILS, RANDOM, NASA))
        result = compare_job(job_of(world, folder, further=[world[2]]), ROWS)
    return folder, result


def by_name(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in result["rows"]}


def test_the_rows_are_in_their_order_and_have_all_data(made: tuple[Path, dict[str, Any]]) -> None:
    folder, result = made
    assert [row["name"] for row in result["rows"]] == ROWS
    assert not any(row["error"] for row in result["rows"])
    assert list(result["datasets"]) == ["questions", "=more"]
    assert result["datasets"]["=more"] == {"n": 12, "questions": 12, "positives": 8 / 12}
    assert json.loads((folder / "comparison.json").read_text()) == json.loads(json.dumps(result))
    written = {path.name for path in folder.iterdir()}
    assert written >= {"comparison.json", "comparison.csv", "report.html", "run.json", "compare"}
    assert written >= {"probing.jsonl", "nas.safetensors", "parametric.jsonl"}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("data", ["questions", "=more"])
def test_every_figure_is_that_of_the_rows(
    name: str, data: str, made: tuple[Path, dict[str, Any]]
) -> None:
    folder, result = made
    rows = read_jsonl(folder / "eval" / f"{data}.{name}.jsonl")
    found = by_name(result)[name]["datasets"][data]
    labels = np.array([row["label"] for row in rows])
    yes = np.array([row["verdict"] == "positive" for row in rows])
    odds = [math.log(row["p_yes"] + 1e-30) - math.log(row["p_no"] + 1e-30) for row in rows]
    said = np.array(
        [row["p_yes"] if one else row["p_no"] for row, one in zip(rows, yes, strict=True)]
    )
    right = yes == labels

    def calibration_error(said: np.ndarray) -> float:
        bins = np.minimum(np.floor(said * 10), 9)
        return sum(abs((said - right)[bins == one].sum()) for one in set(bins)) / len(rows)

    both = np.array([row["p_yes"] + row["p_no"] for row in rows])
    precision = precision_score(labels, yes, zero_division=0) if yes.any() else None
    expected = {
        "accuracy": right.mean(),
        "precision": precision,
        "recall": recall_score(labels, yes),
        "f1": f1_score(labels, yes, zero_division=0),
        "yes_rate": yes.mean(),
        "ece": calibration_error(said),
        "ece_two_words": calibration_error(said / both),
        "auc": roc_auc_score(labels, odds),
        "gap": None if precision is None else precision - recall_score(labels, yes),
        "invalid_rate": 0,
        "nas": np.mean([row["nas"] for row in rows]),
    }
    assert found["n"] == len(rows)
    for figure, value in expected.items():
        mine, low, high = found["figures"][figure] or [None] * 3
        assert mine == (value if value is None else pytest.approx(value, abs=1e-6)), figure
        if figure in ("precision", "gap") and yes.sum() < 10:
            assert (low, high) == (None, None)
        else:
            assert low <= high
    if name == "untouched":
        assert "accuracy_change" not in found["figures"]
        return
    old = read_jsonl(folder / "eval" / f"{data}.untouched.jsonl")
    was = np.array([(row["verdict"] == "positive") == row["label"] for row in old])
    change, low, high = found["figures"]["accuracy_change"]
    assert change == pytest.approx(right.mean() - was.mean())
    assert low <= change <= high


def test_the_untouched_row_is_the_model(world: tuple, made: tuple[Path, dict[str, Any]]) -> None:
    folder, result = made
    model, tokenizer = load(str(world[0]))
    rows = read_jsonl(folder / "eval" / "=more.untouched.jsonl")
    examples = [BinaryExample(row["question"], row["label"]) for row in rows]
    found = nasalign.evaluate(model, tokenizer, examples)
    for name in ("accuracy", "recall", "nas"):
        figure = by_name(result)["untouched"]["datasets"]["=more"]["figures"][name][0]
        assert found[name] == pytest.approx(figure)


def test_cost_and_what_was_chosen(made: tuple[Path, dict[str, Any]]) -> None:
    rows = by_name(made[1])
    assert rows["threshold"]["parameters"] == 1
    assert rows["threshold"]["chosen"].keys() == {"threshold"}
    assert rows["threshold"]["logits"]
    assert (rows["doubled"]["shots"], rows["doubled"]["changes"]) == (4, {"instruction": "A"})
    assert rows["nasa"]["chosen"]["heads"] >= len(rows["nasa"]["chosen"]["kept"]) > 0
    assert rows["nasa"]["parameters"] > 0
    for row in rows.values():
        asked = row["name"] != "threshold"  # that of the untouched model is taken
        assert row["cost"]["seconds_to_evaluate"] > 0 or not asked
        assert row["cost"]["memory_to_fit"] >= 0
    assert rows["nasa"]["cost"]["seconds_to_fit"] > rows["untouched"]["cost"]["seconds_to_fit"]


def test_side_effects_are_those_of_a_changed_model(made: tuple[Path, dict[str, Any]]) -> None:
    rows = by_name(made[1])
    untouched = rows["untouched"]["side_effects"]
    assert untouched["kl"]["mean"] == untouched["kl"]["max"] == 0
    assert untouched["general_qa"]["before"] == untouched["general_qa"]["after"]
    assert untouched["general_qa"]["n"] == 5
    assert rows["threshold"]["side_effects"] == untouched
    for name in ("doubled", "nasa"):
        effects = rows[name]["side_effects"]
        assert effects["kl"]["mean"] > 0
        assert effects["perplexity"]["before"] == untouched["perplexity"]["before"]
        assert effects["perplexity"]["after"] != effects["perplexity"]["before"]
        assert effects["general_qa"]["before"] == untouched["general_qa"]["after"]


def test_what_rows_are_fitted_on_is_not_tested(made: tuple[Path, dict[str, Any]]) -> None:
    material = seen[0]
    tested = {row["question"] for row in read_jsonl(made[0] / "eval" / "questions.untouched.jsonl")}
    tuned = [
        sample
        for sample, part in zip(material.probing.samples, material.probing.parts, strict=True)
        if part == "tuning"
    ]
    asked = [one.question.question for one in tuned]
    assert [one.question for one in material.pairs] == [one for one in asked for _ in range(2)]
    assert [one.label for one in material.pairs] == [True, False] * len(asked)
    subjects = {one.question.split("word")[1].rstrip("?") for one in material.development}
    assert {split_of(subject) for subject in subjects} == {"development"}
    assert sorted(one.known_label for one in material.shots) == [False, False, True, True]
    for part in (material.pairs, material.development, material.shots):
        assert part
        assert not {one.question for one in part} & tested


def test_of_probed_data_given_as_further_only_the_test_split_is_asked(
    world: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    model, data, yes_no = world
    changes = QUICK | {"side_effect_questions": 0}
    job = jobs.make(model, yes_no, probing_data=data, changes=changes, further=[data])
    result = compare_job(job, ["untouched"])
    assert result["rows"][0]["side_effects"]["general_qa"] is None
    subjects = [f"{number}" for number in range(80)]
    expected = sum(split_of(subject) == "test" for subject in subjects)
    assert result["datasets"]["questions"]["questions"] == expected


@pytest.mark.long
def test_two_runs_differ_in_time_and_memory_alone(
    world: tuple[Path, Path, Path], made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    compare_job(job_of(world, tmp_path / "run", further=[world[2]]), ROWS)

    def timeless(folder: Path) -> str:
        content = json.loads((folder / "comparison.json").read_text())
        for row in content["rows"]:
            del row["cost"]
        return json.dumps(content)

    assert timeless(tmp_path / "run") == timeless(made[0])


def without(monkeypatch: pytest.MonkeyPatch, rival: Rival) -> None:
    """Makes sure that a row is not fitted any more."""
    rows = [one if one.name != rival.name else replace(one, fit=None) for one in room.RIVALS]
    monkeypatch.setattr(room, "RIVALS", tuple(rows))


@pytest.mark.long
def test_an_interrupted_comparison_goes_on(
    world: tuple[Path, Path, Path],
    made: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(_: Material) -> Fitted:
        raise Stop

    folder, further = tmp_path / "run", [str(world[2])]
    with monkeypatch.context() as patch:
        rows = [one if one is not DOUBLED else replace(one, fit=stop) for one in room.RIVALS]
        patch.setattr(room, "RIVALS", tuple(rows))
        with pytest.raises(Stop):
            compare_job(job_of(world, folder, further=further), ROWS)
    assert sorted(path.name for path in (folder / "compare").glob("*.json")) == [
        "threshold.json",
        "untouched.json",
    ]
    assert not (folder / "comparison.json").exists()
    for rival in (UNTOUCHED, THRESHOLD):
        without(monkeypatch, rival)
    monkeypatch.setattr("nasalign.nasa.knowledge.ask_and_judge", None)  # it was probed
    result = compare_job(job_of(world, folder, resume=True, further=further), ROWS)
    for mine, whole in zip(result["rows"], made[1]["rows"], strict=True):
        assert json.dumps(mine | {"cost": 0}) == json.dumps(whole | {"cost": 0})


def test_a_finished_comparison_takes_further_rows(
    world: tuple[Path, Path, Path],
    made: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(made[0], folder)
    for rival in (UNTOUCHED, THRESHOLD, DOUBLED, NASA):
        without(monkeypatch, rival)
    again = compare_job(job_of(world, folder, resume=True, further=[world[2]]), ["random"])
    assert [row["name"] for row in again["rows"]] == [*ROWS[:3], "random", "nasa"]
    facts = json.loads((folder / "run.json").read_text())
    assert facts["compare"]["only"] == [*ROWS[:3], "random", "nasa"]
    rows = read_jsonl(folder / "eval" / "questions.untouched.jsonl")
    (folder / "compare" / "random.json").unlink()
    with (folder / "eval" / "questions.untouched.jsonl").open("w") as file:
        file.writelines(json.dumps(row | {"question": "Other?"}) + "\n" for row in rows)
    seal(folder / "eval" / "questions.untouched.jsonl")
    with pytest.raises(NasAlignError, match="begun with other examples of questions"):
        compare_job(job_of(world, folder, resume=True, further=[world[2]]), ["random"])


@pytest.mark.parametrize("name", ["compare/untouched.json", "eval/questions.untouched.jsonl"])
def test_what_is_broken_of_a_comparison_is_made_again(
    world: tuple[Path, Path, Path], made: tuple[Path, dict[str, Any]], tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(made[0], folder)
    (folder / name).write_bytes((folder / name).read_bytes()[:-40])
    result = compare_job(job_of(world, folder, resume=True, further=[world[2]]), ROWS)
    for mine, whole in zip(result["rows"], made[1]["rows"], strict=True):
        assert json.dumps(mine | {"cost": 0}) == json.dumps(whole | {"cost": 0})
    assert whole_file(folder / name, print)


def test_an_alignment_does_not_go_on_in_its_folder(
    world: tuple[Path, Path, Path], made: tuple[Path, dict[str, Any]]
) -> None:
    before = (made[0] / "run.json").read_bytes()
    with pytest.raises(NasAlignError, match="was written by nasalign compare"):
        align_job(job_of(world, made[0], command="align", resume=True, further=[world[2]]))
    assert (made[0] / "run.json").read_bytes() == before


def test_a_row_that_leaves_the_model_changed_is_found(world: tuple[Path, Path, Path]) -> None:
    def spoils(material: Material) -> Fitted:
        with torch.no_grad():
            material.model.get_submodule("model.layers.1.self_attn.q_proj").weight[40] += 0.1
        return Fitted()

    spoiler = Rival("spoiler", "spoiler", "", False, spoils)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "RIVALS", (UNTOUCHED, spoiler))
        with pytest.raises(RuntimeError, match="the row spoiler did not put the model back"):
            compare_job(job_of(world, None))


def test_a_model_that_says_no_number_is_a_row_without_figures(world: tuple) -> None:
    @contextmanager
    def on(model: PreTrainedModel) -> Iterator[None]:
        module = model.get_submodule("model.layers.1.mlp")
        hook = module.register_forward_hook(lambda _, __, out: out * math.nan)
        try:
            yield
        finally:
            hook.remove()

    diverged = Rival("diverged", "diverged", "", False, lambda _: Fitted(on=on))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "RIVALS", (UNTOUCHED, diverged))
        result = compare_job(job_of(world, None))
    assert "no probabilities on questions any more" in result["rows"][1]["error"]


def test_a_model_with_nothing_to_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = case(tmp_path, AFFIRMS)
    changes = QUICK | {"side_effect_questions": 0, "direction": "negative"}
    job = jobs.make(model, data, changes=changes)
    monkeypatch.setattr(room, "RIVALS", (*room.RIVALS, STEERING))
    rows = by_name(compare_job(job, only=["threshold", "steering", "nasa"]))
    assert rows["nasa"]["nothing_to_fix"]
    assert "denies none" in rows["nasa"]["error"]
    assert rows["steering"]["nothing_to_fix"]
    assert not rows["threshold"]["error"]


def test_a_row_that_asks_the_model_the_same_does_not_ask_it_again(
    world: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the untouched model and the row with a hook and another instruction are asked."""
    asked: list[str] = []
    real = row_room.run_evaluation

    def watched(*arguments: Any) -> Evaluation:
        asked.append(arguments[3].instruction)
        return real(*arguments)

    monkeypatch.setattr(row_room, "run_evaluation", watched)
    rows = by_name(compare_job(job_of(world, None), ["threshold", "doubled"]))
    assert asked == ["nasa", "A"]
    figures = [
        rows[name]["datasets"]["questions"]["figures"] for name in ("untouched", "threshold")
    ]
    assert figures[0]["auc"] == figures[1]["auc"]
    assert figures[0]["yes_rate"] != figures[1]["yes_rate"]


def test_what_cannot_be_compared_is_refused(world: tuple[Path, Path, Path]) -> None:
    for changes, says in (
        ({"scenario": "unsure"}, "scenario=plain"),
        ({"shots": 2}, "in a row of their own"),
        ({"split": "development"}, "take split=test"),
    ):
        with pytest.raises(NasAlignError, match=says):
            compare_job(job_of(world, None, changes=changes))


def test_the_names_are_told_apart() -> None:
    names = [rival.name for rival in RIVALS]
    assert len(set(names)) == len(names)
    assert names[0] == "untouched"
    for name in names:
        assert re.fullmatch(r"[a-z][a-z+-]*", name)  # files are called so


def test_ablations_are_made_where_they_are_named() -> None:
    usual = room._chosen([])
    assert "random" not in usual
    assert {"untouched", "nasa", "doubled"} < usual
    assert room._chosen(["random"]) == {"untouched", "random"}


def command(world: tuple[Path, Path, Path], *more: object) -> Result:
    settings = sets(f"{key}={value}" for key, value in QUICK.items())
    return invoke("compare", world[0], "--data", world[1], *more, *settings)


def test_the_command_tells_of_a_row_that_fails(
    world: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    only = ("--eval", world[2], "--only", "threshold,fails", "--out", folder)
    result = command(world, *only)
    said = refused(result)
    assert "questions, 38 test examples, 50 % of them Yes" in said
    assert "=more, 12 test examples, 67 % of them Yes" in said
    assert "threshold*" in said
    assert "* needs the probabilities of the answer words" in said
    assert "fails: This needs a package that is not here." in said
    assert max(len(line) for line in result.output.splitlines() if "to 0." in line) <= 120
    lines = (folder / "comparison.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * 3
    assert lines[-1].startswith("'=more,fails")
    assert lines[-1].endswith("This needs a package that is not here.")
    assert (folder / "report.html").exists()
    again = command(world, *only, "--resume", "--json")
    refused(again)
    printed = json.loads(again.stdout.strip().splitlines()[-1])
    assert [row["name"] for row in printed["rows"]] == ["untouched", "threshold", "fails"]


def test_a_narrow_terminal_gets_what_it_has_room_for(made: tuple[Path, dict[str, Any]]) -> None:
    for width, has in ((80, False), (120, True)):
        console = Console(width=width, force_terminal=True, record=True)
        print_comparison(console, made[1])
        text = console.export_text()
        assert ("a threshold" in text) == has
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= width


def test_an_unknown_row_is_refused(world: tuple[Path, Path, Path], tmp_path: Path) -> None:
    said = refused(command(world, "--only", "nasa,thresold", "--out", tmp_path / "run"))
    assert "There is no row 'thresold'; the rows are untouched, threshold, doubled" in said
    assert "Did you mean 'threshold'?" in said
    assert not (tmp_path / "run").exists()
