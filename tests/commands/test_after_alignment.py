"""What align writes after its evaluation: side effects, and attention on answers that changed."""

import json
import math
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

import jobs
from cases import DENIES, case
from nasalign.adapters.adapter import Adapter, load_adapter
from nasalign.adapters.adapter_file import read_calibration
from nasalign.commands.align import align_job
from nasalign.commands.job import Job
from nasalign.config import Settings, load_preset
from nasalign.data.records import Question, split_of
from nasalign.evaluation import attention_record as attention_stage
from nasalign.evaluation import free_answers as side_effects_stage
from nasalign.evaluation.attention_record import _examples
from nasalign.evaluation.both_models import BothModels
from nasalign.evaluation.free_answers import FreeQuestions
from nasalign.evaluation.platt import fit_platt
from nasalign.evaluation.responses import kind_of
from nasalign.head_rows.rows import head_slices, read_weight_rows, write_rows
from nasalign.io.files import read_jsonl
from nasalign.models.geometry import HeadGeometry
from nasalign.models.loading import load
from nasalign.nasa.knowledge import free_answers
from nasalign.reporting.console_tables import calibration_note
from nasalign.session import Session

QUICK = jobs.QUICK | {"epochs": 3, "n": 4, "side_effect_questions": 7}


EXAMPLE = {"question", "label", "before", "after", "tokens", "yes", "no", "first_row", "attention"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, dict[str, Any]]:
    """A finished run of a tiny model that denies what it says."""
    folder = tmp_path_factory.mktemp("case")
    model, data = case(folder, DENIES, questions=80)
    job = jobs.make(model, data, folder=folder / "run", changes=QUICK)
    return job, align_job(job)


def written(job: Job, name: str) -> Any:
    assert job.out.out is not None
    return json.loads((job.out.out / name).read_text())


def test_side_effects_are_of_held_out_questions(made: tuple[Job, dict[str, Any]]) -> None:
    job, result = made
    found = written(job, "side_effects.json")
    assert found == result["side_effects"]
    assert found.keys() == {"general_qa", "kl", "perplexity"}
    names = {"n", "judge", "before", "after", "change_interval", "data", "cut"}
    assert set(found["general_qa"]) == names
    assert set(found["kl"]) == {"prompts", "tokens", "mean", "interval", "max", "same_top_token"}
    assert set(found["perplexity"]) == {"tokens", "before", "after"}
    answers = found["general_qa"]
    assert (answers["n"], answers["judge"], answers["data"]) == (7, "match", "questions")
    low, high = answers["change_interval"]
    assert low <= answers["after"] - answers["before"] <= high
    assert found["kl"]["mean"] > 0  # heads were kept


def test_attention_is_of_answers_that_changed(made: tuple[Job, dict[str, Any]]) -> None:
    job, _ = made
    assert job.out.out is not None
    found = written(job, "attention.json")
    kept = [
        [row["layer"], row["head"]]
        for row in read_jsonl(job.out.out / "tuning.jsonl")
        if row["record"] == "head" and row["kept"]
    ]
    assert found["heads"] == kept[:6] != []
    sides = [
        read_jsonl(job.out.out / "eval" / f"questions.{side}.jsonl") for side in ("before", "after")
    ]
    asked = {
        (f"{old['question']} Is the answer {old['answer']}?", old["label"]): (old, new)
        for old, new in zip(*sides, strict=True)
    }
    assert 0 < len(found["examples"]) <= 8
    for example in found["examples"]:
        assert set(example) == EXAMPLE
        rows = asked[example["question"], example["label"]]
        for side, row in zip(("before", "after"), rows, strict=True):
            assert example[side] == {name: row[name] for name in ("verdict", "p_yes", "p_no")}
        assert example["tokens"][example["yes"]].strip() == "Yes"
        assert example["tokens"][example["no"]].strip() == "No"
        count = len(example["tokens"]) - example["first_row"]
        assert [[one["layer"], one["head"]] for one in example["attention"]] == found["heads"]
        for one in example["attention"]:
            assert set(one) == {"layer", "head", "nas_before", "nas_after", "before", "after"}
            for side in ("before", "after"):
                lengths = {word: len(weights) for word, weights in one[side].items()}
                assert lengths == {"yes": count, "no": count}
            assert one["before"] != one["after"]


def test_a_run_that_goes_on_takes_what_is_there(
    made: tuple[Job, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, result = made
    assert job.out.out is not None
    folder = tmp_path / "run"
    shutil.copytree(job.out.out, folder)
    (folder / "metrics.json").unlink()

    def fail(*_: object) -> None:
        raise AssertionError("it is there already")

    with monkeypatch.context() as patch:
        patch.setattr(side_effects_stage, "compare_neutral", fail)
        patch.setattr(attention_stage, "attention_map", fail)
        again = jobs.again(job, folder, resume=True)
        assert align_job(again) == result
    (folder / "metrics.json").unlink()
    for name in ("side_effects.json", "attention.json"):
        (folder / name).unlink()
    again = jobs.again(job, folder, resume=True)
    assert align_job(again)["side_effects"] == result["side_effects"]
    for name in ("side_effects.json", "attention.json"):
        assert (folder / name).read_bytes() == (job.out.out / name).read_bytes()


def test_the_calibration_is_in_the_metrics_the_adapter_and_the_answers(
    made: tuple[Job, dict[str, Any]],
) -> None:
    job, result = made
    found, run = written(job, "metrics.json")["calibration"], job.out.out
    assert run is not None
    assert found == json.loads(json.dumps(result["calibration"]))
    fit = read_calibration(run)
    assert fit
    held = read_jsonl(run / "held_back.after.jsonl")
    assert found["n"] == fit.n == len(held)
    evaluated = {row["question"] for row in read_jsonl(run / "eval" / "questions.before.jsonl")}
    probed = {row["question"] for row in read_jsonl(run / "probing.jsonl")}
    assert not {row["question"] for row in held} & (evaluated | probed)
    odds = torch.tensor([row["log_odds"] for row in held], dtype=torch.float64)
    assert fit.after == fit_platt(odds, [row["label"] for row in held])
    assert found["after"].keys() == {"slope", "offset", "n", "datasets"}
    assert (found["after"]["slope"], found["after"]["offset"]) == (
        fit.after.slope,
        fit.after.offset,
    )
    errors = found["after"]["datasets"]["questions"]
    low, high = errors["calibrated_error_interval"]
    assert low <= errors["calibrated_error"] <= high


def test_an_answer_has_the_calibrated_probability_of_the_prompt_of_the_fit(
    made: tuple[Job, dict[str, Any]],
) -> None:
    run = made[0].out.out
    assert run is not None
    model, tokenizer = load(made[0].model)
    adapter, fit = load_adapter(run / "adapter", model), read_calibration(run / "adapter")
    assert fit
    settings = load_preset().replace({"date": "2026-01-01"})
    models = BothModels(Session(model, tokenizer, settings), adapter, fit)
    example = models.example({"question": "What is word3?", "answer": "it"})
    answers = models.ask(example)
    for side, scaling in (("untouched", fit.before), ("aligned", fit.after)):
        said = answers[side]
        assert scaling
        odds = math.log(said["p_yes"]) - math.log(said["p_no"])
        right = 1 / (1 + math.exp(-scaling.slope * odds - scaling.offset))
        assert said["p_yes_calibrated"] == pytest.approx(right, abs=1e-6)
    told = [calibration_note(fit, one) for one in (answers, {"aligned": {}})]
    assert "fitted on 30 held-back examples of questions" in told[0]
    assert "with another prompt" in told[1]
    other = BothModels(models.session.with_settings(instruction="A"), adapter, fit)
    assert "p_yes_calibrated" not in other.ask(example)["aligned"]
    without = BothModels(models.session, adapter)  # a run of an earlier version
    assert "p_yes_calibrated" not in without.ask(example)["aligned"]


def test_nothing_is_asked_if_not_wanted(made: tuple[Job, dict[str, Any]], tmp_path: Path) -> None:
    job, result = made
    changes = QUICK | {"side_effect_questions": 0}
    found = align_job(jobs.make(job.model, job.data.data, changes=changes))["side_effects"]
    assert found["general_qa"] is None
    assert found["kl"] == result["side_effects"]["kl"]


def test_of_yes_no_data_the_held_out_questions_are_the_probed_data_s(
    made: tuple[Job, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _ = made
    data = tmp_path / "verify.jsonl"
    rows = [{"question": f"Is word{number} a word?", "label": True} for number in range(6)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked: list[str] = []
    real = side_effects_stage.free_answers

    def note(session: Any, questions: Any, *rest: Any) -> Any:
        asked.extend(split_of(question.subject) for question in questions)
        return real(session, questions, *rest)

    monkeypatch.setattr(side_effects_stage, "free_answers", note)
    mixed = jobs.make(job.model, data, probing_data=job.data.data, changes=QUICK)
    found = align_job(mixed)["side_effects"]
    assert found["general_qa"]["data"] == "questions"
    assert asked == ["test"] * 14  # before and after


def test_a_model_that_judges_itself_does_so_untouched(
    made: tuple[Job, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _ = made
    untouched, _ = load(job.model)
    states = []
    real = side_effects_stage.judged

    def note(questions: Any, answers: Any, chat: Any, progress: Any) -> Any:
        pairs = zip(chat._model.parameters(), untouched.parameters(), strict=True)
        states.append(all((one == other).all() for one, other in pairs))
        return real(questions, answers, None, progress)

    monkeypatch.setattr(side_effects_stage, "judged", note)
    monkeypatch.setattr(
        "nasalign.nasa.knowledge.judged", lambda asked, said, *_, **how: real(asked, said)
    )
    own = jobs.make(job.model, job.data.data, changes=QUICK | {"judge": "self"})
    assert align_job(own)["side_effects"]["general_qa"]["judge"] == "self"
    assert states == [True, True]


def test_free_answers_are_those_of_each_model(llama: Any) -> None:
    model, tokenizer = llama
    rows = [head_slices(HeadGeometry.of(model), 0, 1, "group")[0]]
    before = {where: read_weight_rows(model, where) for where in rows}
    for where in rows:
        write_rows(model, where, 3 * before[where])
    adapter = Adapter.between(before, model, "print")
    settings = Settings(answer_tokens=5)
    bench = Session(model, tokenizer, settings)
    asked = FreeQuestions("words", [Question(f"What is word{n}?", "-") for n in range(12)])
    changed = free_answers(bench, asked.questions).texts
    adapter.revert(model)
    untouched = free_answers(bench, asked.questions).texts
    assert changed != untouched
    for side, change, texts in (("before", nullcontext, untouched), ("after", adapter.on, changed)):
        assert [one.prediction for one in asked.answered(bench, side, change)] == texts
    assert all(torch.equal(rows, read_weight_rows(model, where)) for where, rows in before.items())


def turned(*ways: tuple[bool, str, str]) -> tuple[list[dict], list[dict]]:
    """Rows by label, verdict before and verdict after."""
    before = [{"label": label, "verdict": old} for label, old, _ in ways]
    return before, [{"label": label, "verdict": new} for label, _, new in ways]


TO_TP = (True, "negative", "positive")
TO_FP = (False, "negative", "positive")
STILL_FN = (True, "negative", "negative")
STILL_TN = (False, "negative", "negative")
TO_FN = (True, "positive", "negative")


@pytest.mark.parametrize(
    ("ways", "expected"),
    [
        ([TO_TP] * 10 + [TO_FP] * 10, {"FN": 4, "TN": 4}),
        ([TO_TP] * 10 + [TO_FP], {"FN": 7, "TN": 1}),
        ([STILL_FN] * 3 + [TO_FP] * 10 + [TO_TP] * 2, {"FN": 2, "TN": 6}),
        ([TO_TP] * 2 + [TO_FN] * 3 + [STILL_FN] * 9, {"FN": 2, "TP": 3}),
        ([STILL_FN] * 12 + [STILL_TN] * 12, {"FN": 8}),
        ([STILL_TN] * 3, {}),
    ],
)
def test_which_examples_are_shown(
    ways: list[tuple[bool, str, str]], expected: dict[str, int]
) -> None:
    before, after = turned(*ways)
    chosen = _examples(before, after, seed=0)
    assert len(set(chosen)) == len(chosen)
    kinds = [kind_of(before[place]) for place in chosen]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == expected
    changed = [before[place]["verdict"] != after[place]["verdict"] for place in chosen]
    assert len(set(changed)) <= 1  # others only where none changed
