"""``nasalign data`` writes rows that every command can read again, and loses nothing."""

import json
from pathlib import Path

import pytest

import slices
import upstream
from fake_endpoint import completion, serving
from fault_tools import done, invoke, refused, said
from nasalign.data.records import BinaryExample
from nasalign.data.sources import SOURCES
from nasalign.data.user_file import load_file
from nasalign.io.files import read_jsonl


def run(*arguments: object) -> dict:
    result = done("data", *arguments, "--json")
    return json.loads(result.stdout.strip().splitlines()[-1]) | {"said": said(result)}


@pytest.mark.parametrize("name", SOURCES)
def test_rows_have_the_columns_of_the_design_and_are_read_again(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out" / "rows.jsonl"
    source = upstream.write(tmp_path, name)
    summary = run(name, "--source", source, "--out", out, "--set", "sides=both")
    written = read_jsonl(out)
    assert summary["total"] == len(written) > 0
    assert summary["positives"] == sum(row["label"] for row in written)
    assert {tuple(row) for row in written} == {
        ("id", "dataset", "question", "context", "answer", "label")
    }
    assert {row["dataset"] for row in written} == {name}
    assert len({row["id"] for row in written}) == len(written)
    again = load_file(out).records
    assert [(one.id, one.question, one.context, one.answer) for one in again] == [
        (row["id"], row["question"], row["context"], row["answer"]) for row in written
    ]
    assert all(isinstance(one, BinaryExample) for one in again)
    assert run(out, "--out", tmp_path / "again.jsonl")["positives"] == summary["positives"]
    assert [row["question"] for row in read_jsonl(tmp_path / "again.jsonl")] == [
        row["question"] for row in written
    ]


@slices.needed
@pytest.mark.parametrize("name", slices.FILES)
def test_the_real_data_sets_are_built(name: str, tmp_path: Path) -> None:
    sources = [part for path in slices.files(name) for part in ("--source", path)]
    summary = run(name, *sources, "--out", tmp_path / "rows.jsonl")
    paper = SOURCES[name].paper
    assert summary["paper"] == (
        paper and {"positives": paper[0], "negatives": paper[1], "total": sum(paper)}
    )
    assert abs(summary["positives"] - summary["negatives"]) <= (133 if name == "strategyqa" else 1)


def test_the_table_has_the_form_of_table_8(tmp_path: Path) -> None:
    path = upstream.write(tmp_path, "ar-lsat")
    shown = done("data", "ar-lsat", "--source", path, "--out", tmp_path / "rows.jsonl")
    assert "1 (820)" in shown.output
    assert "2 (1597)" in shown.output


def test_what_is_dropped_is_told(tmp_path: Path) -> None:
    path = upstream.write(tmp_path, "gsm8k")
    summary = run("gsm8k", "--source", path, "--out", tmp_path / "rows.jsonl")
    assert summary["dropped"] == {"no answer after ####": 1}
    assert "Left out: 1 (no answer after ####; the first is" in summary["said"]
    assert "gsm8k.jsonl, line 3)" in summary["said"].replace(" ,", ",")
    assert summary["left_out"] == [
        {"data": "gsm8k", "where": f"{path}, line 3", "reason": "no answer after ####"}
    ]


def test_facts_and_a_limit(tmp_path: Path) -> None:
    summary = run("facts", "--limit", 10, "--out", tmp_path / "rows.jsonl")
    assert (summary["positives"], summary["negatives"]) == (5, 5)
    assert summary["paper"] is None


def test_an_old_file_is_kept_unless_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    out.write_text("mine\n")
    assert "give another, or --overwrite" in refused(invoke("data", "facts", "--out", out))
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"question": "q?", "answer": "a"}\n{"question"\n')
    sentence = refused(invoke("data", broken, "--out", out, "--overwrite"))
    assert "line 2 is not valid JSON" in sentence
    assert out.read_text() == "mine\n"
    run("facts", "--limit", 2, "--out", out, "--overwrite")
    assert len(read_jsonl(out)) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("facts", "--out", "rows.csv"), "must end in .jsonl"),
        (("gsm8k", "--out", "x.jsonl", "--source", "gone.jsonl"), "Cannot read the data file gone"),
        (("facts", "--out", "x.jsonl", "--source", "f.json"), "name one with --data"),
        (("facts", "--out", "x.jsonl", "--generator", "gpt-4"), "must be rules, self or openai"),
        (("facts", "--out", "x.jsonl", "--generator", "self"), "no model here that could be asked"),
        (("nothing", "--out", "x.jsonl"), "There is no data 'nothing'"),
        (("ids.jsonl", "--strict", "--out", "x.jsonl"), "ids.jsonl, line 2 has the id '7', as"),
    ],
)
def test_mistakes_are_sentences(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    row = '{"id": "7", "question": "q?", "answer": "a"}\n'
    (tmp_path / "ids.jsonl").write_text(row * 2)
    assert sentence in refused(invoke("data", *arguments))
    assert not (tmp_path / "x.jsonl").exists()


def test_a_generator_writes_the_wrong_answers_and_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NASALIGN_CACHE", str(tmp_path / "cache"))
    path = upstream.write(tmp_path, "musique")
    one, two = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    command = ("musique", "--source", path, "--generator", "openai:gpt-4", "--set", "sides=both")
    with serving() as fake:
        fake.reply = lambda request: completion("Rhine")
        monkeypatch.setenv("OPENAI_BASE_URL", fake.url)
        limited = refused(invoke("data", *command, "--out", one, "--max-calls", 1))
        assert "limit of 1 calls is reached with 1 answers missing" in limited
        assert not one.exists()
        first, second = (run(*command, "--out", out)["said"] for out in (one, two))
    assert len(fake.asked) == 2
    assert one.read_text() == two.read_text()
    assert [row["answer"] for row in read_jsonl(one)] == ["Danube", "Rhine", "Isar", "Rhine"]
    assert "openai:gpt-4: 1 calls, 1 answers from the cache; 11 tokens sent, 3 received." in first
    assert "0 calls, 2 answers from the cache" in second


def test_a_file_called_like_data_of_the_paper_is_not_counted_against_it(tmp_path: Path) -> None:
    path = tmp_path / "ar-lsat.jsonl"
    path.write_text('{"question": "Is it?", "answer": "yes"}\n')
    summary = run(path, "--out", tmp_path / "rows.jsonl")
    assert (summary["dataset"], summary["paper"]) == ("ar-lsat", None)
