"""Evaluation by what the model knows, and never of what an adapter was tuned on."""

import hashlib
from pathlib import Path

import pytest

import jobs
import upstream
from aligned import aligned
from nasalign.commands.diagnose import diagnose_job
from nasalign.commands.evaluate import evaluate_job
from nasalign.commands.job import Job
from nasalign.data.records import BinaryExample, Question
from nasalign.errors import DataError
from nasalign.evaluation.prompt_fit import as_question
from nasalign.io.files import read_json, read_jsonl, write_json, write_jsonl
from nasalign.nasa import knowledge
from nasalign.reporting.report.run_folder import RunFiles
from nasalign.reporting.report.tables import subset_tables
from run_folder import FACTS

QUICK = {"bootstrap_samples": 50, "answer_tokens": 4, "sides": "both"}


def job(model: str, tmp_path: Path, name: str, **options: object) -> Job:
    sources = {name: [upstream.write(tmp_path, name)]}
    return jobs.make(model, name, sources=sources, changes=QUICK, **options)


def test_figures_are_given_by_what_the_model_knows(model: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    metrics = evaluate_job(job(model, tmp_path, "gsm8k", folder=folder), None, knowledge=True)
    assert sum(part["n"] for part in metrics["knowledge"].values()) == metrics["n"] == 4
    rows = read_jsonl(folder / "eval" / "gsm8k.before.jsonl")
    assert [row["id"] for row in rows] == ["gsm8k-1-yes", "gsm8k-1-no", "gsm8k-2-yes", "gsm8k-2-no"]
    for yes, no in zip(rows[::2], rows[1::2], strict=True):
        for key in ("knowledge", "prediction", "entropy", "confident"):
            assert yes[key] == no[key]
    for kind, part in metrics["knowledge"].items():
        mine = [row for row in rows if row["knowledge"] == kind]
        assert part["n"] == len(mine)
        assert part["yes_rate"] == sum(row["verdict"] == "positive" for row in mine) / len(mine)
    tables = subset_tables(RunFiles.read(folder))
    assert [table["title"] for table in tables] == ["gsm8k, before"]
    assert [(inner, n) for _, inner, n, _ in tables[0]["rows"]] == [(False, 4)] + [
        (True, part["n"]) for part in metrics["knowledge"].values()
    ]
    shares = [cells[0][0] for _, inner, _, cells in tables[0]["rows"] if inner]
    assert shares == [part["yes_rate"] for part in metrics["knowledge"].values()]
    written = read_json(folder / "metrics.json")["datasets"]["gsm8k"]["before"]
    assert written["knowledge"].keys() == metrics["knowledge"].keys()


def test_yes_no_questions_are_known_by_yes_or_no() -> None:
    example = BinaryExample("Is ice cold?", True, context="Ice is cold.", id="7")
    found = as_question(example)
    assert (found.question, found.context, found.id) == (example.question, example.context, "7")
    assert {"Yes", "yes"} <= {found.answer, *found.aliases}
    other = as_question(BinaryExample("Two?", False, "3"))
    assert (other.question, other.answer) == ("Two? Is the answer 3?", "No")
    asked = Question("Who?", "Ann")
    assert as_question(asked) is asked


def test_what_an_adapter_was_tuned_on_is_not_evaluated(model: str, tmp_path: Path) -> None:
    run = tmp_path / "tuned"
    (run / "adapter").mkdir(parents=True)
    write_json(run / "run.json", FACTS | {"probing_data": "gsm8k"})
    for adapter in (run, run / "adapter"):
        with pytest.raises(DataError, match=r"tuned on a part of gsm8k; .*--split test"):
            evaluate_job(job(model, tmp_path, "gsm8k"), adapter)


def test_what_the_run_of_an_adapter_has_probed_is_not_evaluated_from_another_file(
    tmp_path: Path,
) -> None:
    run = aligned(tmp_path)
    write_json(run / "run.json", FACTS)
    asked = [f"What is word{number}?" for number in range(6)]
    rows = [{"question": question, "answer": "a"} for question in asked[:4]]
    write_jsonl(run / "parametric.jsonl", [rows[0], rows[3]])
    folder = tmp_path / "evaluated"
    data = tmp_path / "other.jsonl"
    write_jsonl(data, [rows[0] | {"label": "yes", "question": " what is WORD0?"}, *rows[1:]])
    told: list[str] = []
    changes = QUICK | {"split": "all"}
    given = jobs.make(tmp_path / "model", data, folder=folder, changes=changes)
    given.run.reporter.say = told.append  # type: ignore[method-assign]
    evaluate_job(given, run)
    evaluated = read_jsonl(folder / "eval" / "other.after.jsonl")
    assert {row["question"] for row in evaluated} == set(asked[1:3])
    assert any("Left out: 2 (the adapter's run has probed it" in one for one in told)
    write_jsonl(data, [rows[3], rows[0]])
    with pytest.raises(DataError, match="Of other nothing is left to evaluate"):
        evaluate_job(jobs.again(given, given.out.out, overwrite=True), run)


def test_a_copy_of_the_probed_file_is_not_evaluated_whole(model: str, tmp_path: Path) -> None:
    rows = [{"question": f"What is word{number}?", "answer": f"{number}"} for number in range(30)]
    copy = tmp_path / "copy.jsonl"
    write_jsonl(copy, rows)
    run = tmp_path / "tuned"
    (run / "adapter").mkdir(parents=True)
    facts = FACTS | {"probing_data": "mine", "probing_origin": "mine.jsonl"}
    digest = hashlib.sha256(copy.read_bytes()).hexdigest()
    write_json(run / "run.json", facts | {"digests": {"mine.jsonl": digest}})
    given = jobs.make(model, copy, changes=QUICK | {"split": "all"})
    with pytest.raises(DataError, match=r"tuned on a part of copy; .*--split test"):
        evaluate_job(given, run)


def test_the_lean_is_measured_on_other_data_if_there_is_any(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = tmp_path / "questions.jsonl"
    row = {"question": "What is word1?", "answer": "a"}
    write_jsonl(questions, [row | {"subject": str(number)} for number in range(30)])
    monkeypatch.setattr(knowledge, "judge", lambda asked, *rest, **how: [True] * len(asked))
    found = diagnose_job(job(model, tmp_path, "strategyqa", probing_data=str(questions)))
    assert found["metrics"]["n"] == 2  # of strategyqa
    assert found["heads"]
