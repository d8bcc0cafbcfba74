"""Rows that do not fit are left out, counted and listed; options hold for all files of a user."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import jobs
from nasalign.commands.data import data_job
from nasalign.commands.diagnose import diagnose_job
from nasalign.commands.evaluate import evaluate_job, scenarios_job
from nasalign.commands.job import Job
from nasalign.data.reading import Dropped
from nasalign.errors import DataError, NasAlignError, PromptError
from nasalign.io.files import read_json, read_jsonl
from nasalign.run import Run
from nasalign.run_file import read_run

LONG = "the author of the novel was William. " * 60
ROWS: list[dict[str, Any]] = [
    {"question": f"Is word{n} a word?", "answer": ("no", "yes")[n % 2]} for n in range(6)
]
ROWS[3] |= {"context": LONG}
TOO_LONG = "its prompt is longer than the model's context of 512 tokens"


def write(folder: Path, rows: list[dict[str, Any]], name: str = "mine.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def job(model: str, data: Path, folder: Path | None = None, **options: Any) -> Job:
    changes = {"bootstrap_samples": 20, "answer_tokens": 4} | options.pop("changes", {})
    return jobs.make(model, data, folder=folder, changes=changes, **options)


@pytest.mark.parametrize("decoder", ["logits", "generate"])
def test_a_long_row_is_left_out_of_an_evaluation(model: str, tmp_path: Path, decoder: str) -> None:
    path, folder = write(tmp_path, ROWS), tmp_path / "run"
    metrics = evaluate_job(job(model, path, folder, changes={"decoder": decoder}), None)
    assert metrics["n"] == 5
    asked = [row["question"] for row in read_jsonl(folder / "eval" / "mine.before.jsonl")]
    assert asked == [row["question"] for row in ROWS if "context" not in row]
    assert read_run(folder)["dropped"] == {"mine": {TOO_LONG: 1}}
    (row,) = read_jsonl(folder / "left_out.jsonl")
    assert (row["data"], row["where"], row["reason"]) == ("mine", f"{path}, line 4", TOO_LONG)
    assert "tokens, more than the model's context of 512; shorten" in row["detail"]


def test_strict_stops_at_a_long_row_and_names_it(model: str, tmp_path: Path) -> None:
    path = write(tmp_path, ROWS)
    with pytest.raises(PromptError, match=r"mine\.jsonl, line 4: its prompt has \d+ tokens, more"):
        evaluate_job(job(model, path, how={"strict": True}), None)


def test_where_no_row_fits_the_first_is_named(model: str, tmp_path: Path) -> None:
    path = write(tmp_path, [row | {"context": LONG} for row in ROWS])
    with pytest.raises(PromptError, match=r"mine\.jsonl, line 1: its prompt has"):
        evaluate_job(job(model, path), None)


def test_both_sides_of_a_question_go_together(model: str, tmp_path: Path) -> None:
    rows = [
        {"question": f"Who is word{n}?", "answer": "a", "wrong_answer": "b", "subject": f"s{n}"}
        for n in range(8)
    ]
    rows[5] |= {"wrong_answer": LONG}  # its right answer alone would fit
    path = write(tmp_path, rows)
    changes = {"sides": "both", "split": "all"}
    asked = job(model, path, tmp_path / "run", changes=changes)
    metrics = evaluate_job(asked, None, knowledge=True)
    assert metrics["n"] == 14
    assert sum(part["n"] for part in metrics["knowledge"].values()) == 14
    assert asked.run.facts["dropped"] == {"mine": {TOO_LONG: 1}}


def test_evidence_that_is_too_long_in_one_scenario(model: str, tmp_path: Path) -> None:
    """Every scenario asks the same examples."""
    path = write(tmp_path, [row | {"context": row.get("context", "It is.")} for row in ROWS])
    asked = job(model, path, changes={"context": "none"})
    result = scenarios_job(asked, ["plain", "context"], None)
    assert [part["all"]["n"] for part in result["scenarios"].values()] == [5, 5]
    assert scenarios_job(job(model, path, changes={"context": "none"}), ["plain"], None)["n"] == 6


def test_a_long_question_is_not_probed(model: str, tmp_path: Path) -> None:
    rows = [
        {"question": f"What is word{n}?", "answer": "-", "wrong_answer": "b"} for n in range(40)
    ]
    for row in rows[::4]:
        row["question"] += f" {LONG}"
    path, folder = write(tmp_path, rows), tmp_path / "run"
    with pytest.raises(DataError, match="answers none of the"):
        diagnose_job(job(model, path, folder))
    probed = [row["question"] for row in read_jsonl(folder / "parametric.jsonl")]
    assert probed
    assert not [question for question in probed if LONG in question]
    places = {int(row["where"].split("line ")[1]) - 1 for row in _rows_of(folder)}
    left_out = read_run(folder)["dropped"]["probing"][TOO_LONG]
    assert 0 < left_out == len(places) == sum("word" in rows[one]["question"] for one in places)
    assert all(LONG in rows[one]["question"] for one in places)


def _rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for row in read_jsonl(folder / "left_out.jsonl") if row["data"] == "probing"]


def test_reasons_of_several_stages_add_up_and_a_resumed_stage_counts_once(tmp_path: Path) -> None:
    def drop(run: Run, *places: str) -> None:
        dropped = Dropped()
        for place in places:
            dropped.add("it is long", place)
        run.drop(dropped, "mine")

    run = Run(tmp_path)
    drop(run, "line 1", "line 2")
    drop(run, "line 7")
    assert run.facts["dropped"] == {"mine": {"it is long": 3}}
    run.save()
    again = Run(tmp_path, facts=read_json(tmp_path / "run.json"), resuming=True)
    drop(again, "line 1", "line 2")  # the second stage is read from its file
    again.save()
    assert again.facts["dropped"] == {"mine": {"it is long": 3}}
    assert [row["where"] for row in read_jsonl(tmp_path / "left_out.jsonl")] == [
        "line 1",
        "line 2",
        "line 7",
    ]
    drop(again, "line 7")
    drop(again, "line 9")
    assert again.facts["dropped"] == {"mine": {"it is long": 4}}


CLAIMS = [
    {"claim": "It is.", "evidence": "Yes.", "verdict": "SUPPORTS", "page": "a"},
    {"claim": "It is not.", "evidence": "No.", "verdict": "REFUTES", "page": "b"},
]
MAPPED: dict[str, Any] = {
    "columns": ["question=claim,context=evidence,label=verdict"],
    "labels": "SUPPORTS/REFUTES",
}


def test_an_option_must_fit_one_of_the_files(model: str, tmp_path: Path) -> None:
    claims, questions = write(tmp_path, CLAIMS), write(tmp_path, _questions(), "questions.jsonl")
    both = jobs.make(data=claims, probing_data=questions, how=MAPPED)
    splits = both.splits()
    assert (len(splits.test), splits.probing_name) == (2, "questions")
    assert both.run.facts["file_format"] == {
        "columns": {"question": "claim", "context": "evidence", "label": "verdict"},
        "labels": "SUPPORTS/REFUTES",
    }
    files: Mapping[str, Any] = both.run.facts["files"]
    assert files[str(claims)]["unread"] == {"page": 2}
    assert files[str(claims)]["verdicts"] == {"verdict": {"yes": 1, "no": 1}}
    aliased = {"columns": [*MAPPED["columns"], "aliases=nicknames"]}
    for wrong, sentence in (
        (aliased, r"fits aliases=nicknames: .*'claim', .*; .*questions\.jsonl has 'question', "),
        ({"group_by": "team"}, r"fits --group-by team"),
        ({"labels": "good/bad"}, r"fits --labels good/bad"),
    ):
        with pytest.raises(DataError, match=sentence):
            jobs.make(data=claims, probing_data=questions, how=MAPPED | wrong).splits()


def _questions() -> list[dict[str, Any]]:
    return [{"question": f"Who is {n}?", "answer": f"A{n}"} for n in range(20)]


def test_a_run_is_not_resumed_with_other_columns(model: str, tmp_path: Path) -> None:
    path, folder = write(tmp_path, CLAIMS), tmp_path / "run"
    asked = job(model, path, folder, how=MAPPED)
    asked.splits()
    asked.session()
    for how, option in (
        (MAPPED | {"columns": ["question=claim,context=,label=verdict"]}, "--columns"),
        (MAPPED | {"labels": "SUPPORTS/REFUTES/NEI"}, "--labels"),
        (MAPPED | {"group_by": "page"}, "--group-by"),
        (MAPPED | {"strict": True}, "--strict"),
    ):
        again = job(model, path, folder, how=how, resume=True)
        again.splits()
        with pytest.raises(NasAlignError, match=f"begun with another {option}"):
            again.session()
    same = job(model, path, folder, how=MAPPED, resume=True)
    same.splits()
    same.session()


def test_the_command_data_reads_columns_too(tmp_path: Path) -> None:
    path, out = (
        write(tmp_path, [*CLAIMS, {"claim": "Who?", "verdict": "NEI"}]),
        tmp_path / "o.jsonl",
    )
    summary = data_job(jobs.make(data=path, how=MAPPED), out)
    assert (summary["positives"], summary["negatives"]) == (1, 1)
    assert summary["dropped"] == {"its label is neither Yes nor No": 1}
    assert summary["left_out"][0]["where"] == f"{path}, line 3"
    with pytest.raises(DataError, match=r"line 3 has the label 'NEI', which is neither"):
        data_job(jobs.make(data=path, how=MAPPED | {"strict": True}), tmp_path / "p.jsonl")


def test_a_yes_no_row_of_a_subject_that_is_probed_is_not_evaluated(tmp_path: Path) -> None:
    subjects = [f"s{n}" for n in range(30)]
    rows = [
        {"question": f"Who is {one}?", "answer": f"A{one}", "subject": one} for one in subjects
    ] + [{"question": f"Is {one} old?", "answer": "yes", "subject": one} for one in subjects]
    made = jobs.make(data=write(tmp_path, rows))
    splits = made.splits()
    probed = {one.about for one in splits.probing}
    assert probed
    assert not probed & {one.about for one in splits.test}
    assert made.run.facts["dropped"]["mine"] == {"its subject is probed": len(probed)}
