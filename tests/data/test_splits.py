"""What is probed is never evaluated, and each question gets the context that is asked for."""

import json
from pathlib import Path

import pytest

import upstream
from nasalign.data.reading import Dropped
from nasalign.data.records import BinaryExample, Question, split_of
from nasalign.data.sources import SOURCES, Loaded, load_data
from nasalign.data.splits import Splits, unseen, with_context
from nasalign.errors import DataError


def loaded(name: str, count: int = 200, origin: str = "") -> Loaded:
    records = [Question(f"{name} {n}?", f"{n}", subject=f"{name} {n}") for n in range(count)]
    examples = [*records, BinaryExample("Is it?", True)]
    source = None if origin else SOURCES.get(name)
    return Loaded(name, examples, Dropped(), origin or name, source=source)


def subjects(records: list) -> set[str]:
    return {record.subject for record in records if isinstance(record, Question)}


def test_one_data_set_is_split_by_subject() -> None:
    data = loaded("mine")
    splits = Splits.of(data, data)
    assert splits.part == "test"
    assert {split_of(subject) for subject in subjects(splits.probing)} == {"probing"}
    assert {split_of(subject) for subject in subjects(splits.test)} == {"test"}
    assert splits.test[-1] == BinaryExample("Is it?", True)  # is never probed
    development = Splits.of(data, data, "development")
    assert {split_of(subject) for subject in subjects(development.test)} == {"development"}


def test_what_is_probed_is_never_evaluated_whole() -> None:
    with pytest.raises(DataError, match="mine is probed, so it cannot be evaluated whole"):
        Splits.of(loaded("mine"), loaded("mine"), "all")
    with pytest.raises(DataError, match="gsm8k is probed"):
        Splits.of(loaded("gsm8k", origin="a.jsonl"), loaded("gsm8k", origin="b.jsonl"), "all")


def test_data_of_the_paper_is_evaluated_whole_unless_it_is_probed() -> None:
    assert len(Splits.of(loaded("gsm8k"), loaded("facts")).test) == 201
    assert Splits.of(loaded("gsm8k"), loaded("facts"), "test").part == "test"
    assert Splits.of(loaded("gsm8k"), loaded("gsm8k")).part == "test"
    assert Splits.of(loaded("gsm8k"), loaded("gsm8k"), probed=False).part == "all"
    assert Splits.of(loaded("mine"), loaded("mine"), "all", probed=False).part == "all"
    assert Splits.of(loaded("hotpotqa"), loaded("facts")).part == "test"
    assert Splits.of(loaded("mine"), loaded("facts")).part == "test"


def test_a_file_that_is_called_like_data_of_the_paper_is_none() -> None:
    own = loaded("gsm8k", origin="private/gsm8k.jsonl")
    splits, paper = (Splits.of(data, loaded("facts")) for data in (own, loaded("gsm8k")))
    assert (splits.part, splits.named, paper.named) == ("test", False, True)
    assert "of facts; evaluated are 201 of gsm8k (whole)" in paper.sentence
    assert Splits.of(own, own).same


def test_context_is_given_as_asked(tmp_path: Path) -> None:
    long = load_data("musique", [upstream.write(tmp_path, "musique")]).records
    plain = Question("Who?", "Ann", context="She is here.")
    records = [*long, plain, BinaryExample("Is it?", True, context="It is.")]
    for mode in ("all", "supporting", "none"):
        chosen, taken = with_context(records, mode)
        assert taken == mode
        assert [one.question for one in chosen] == [one.question for one in records]
    assert [one.context for one in with_context(records, "none")[0]] == [None] * 4
    brief = with_context(records, "supporting")[0]
    assert brief[0].context == "[Title: Ulm] Ulm lies on it."
    assert (brief[2].context, brief[3].context) == ("She is here.", "It is.")


def test_all_of_a_context_is_given_only_if_every_question_fits(tmp_path: Path) -> None:
    long = load_data("musique", [upstream.write(tmp_path, "musique")]).records
    assert with_context(long, "fit", lambda question: True) == (long, "all")
    some = with_context(long, "fit", lambda question: question is long[0])
    assert some[1] == "supporting"
    assert with_context(long, "fit")[1] == "supporting"  # no model, no length
    facts = load_data("facts").records
    assert with_context(facts, "fit", lambda question: False) == (facts, "all")


def from_file(folder: Path, name: str, rows: list[dict], probing: Loaded) -> Splits:
    """The splits where a file is evaluated whole and other data are probed."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Splits.of(load_data(str(path)), probing, "all")


def rows_of(count: int = 60) -> list[dict]:
    return [
        {"question": f"What is word{number}?", "answer": f"a{number}", "subject": f"s{number}"}
        for number in range(count)
    ]


def test_what_is_probed_is_not_evaluated_from_another_file(tmp_path: Path) -> None:
    rows = rows_of()
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    probing = load_data(str(tmp_path / "mine.jsonl"))
    probed = {row["question"] for row in rows if split_of(row["subject"]) == "probing"}
    files = {
        "turned": [*reversed(rows)],
        "overlapping": [*rows[:40], {"question": "Another?", "answer": "b"}],
        "bare": [row | {"subject": None} for row in rows],
        "written otherwise": [
            row | {"question": row["question"].upper().replace(" ", "  "), "context": "There."}
            for row in rows
        ],
        "yes or no": [row | {"label": "no", "answer": "b"} for row in rows],
        "with ids": [row | {"id": str(number)} for number, row in enumerate(rows)],
    }
    for name, given in files.items():
        splits = from_file(tmp_path, f"{name}.jsonl", given, probing)
        asked = sorted(" ".join(record.question.split()).lower() for record in splits.test)
        there = {" ".join(row["question"].split()).lower() for row in given}
        assert asked == sorted(there - {question.lower() for question in probed}), name
        dropped = splits.left_out.counts["it is probed or tuned on"]
        assert dropped + len(splits.test) == len(given)
    some = [row for row in rows if row["question"] in probed]
    with pytest.raises(DataError, match=r"Of all nothing is left to evaluate: .*probed"):
        from_file(tmp_path, "all.jsonl", some, probing)


@pytest.mark.parametrize(
    "spelling", ["folder/../mine.jsonl", "link.jsonl", "folder/mine.jsonl", "other.json"]
)
def test_the_same_file_by_another_spelling_is_the_same(tmp_path: Path, spelling: str) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows_of()))
    (tmp_path / "folder").mkdir()
    other = tmp_path / spelling
    if spelling == "link.jsonl":
        other.symlink_to(path)
    elif spelling == "folder/mine.jsonl":
        other.write_bytes(path.read_bytes())
    elif spelling == "other.json":
        other.write_text(json.dumps(rows_of()))
    data, probing = load_data(str(other)), load_data(str(path))
    with pytest.raises(DataError, match="is probed, so it cannot be evaluated whole"):
        Splits.of(data, probing, "all")
    assert Splits.of(data, probing).same


def test_questions_of_the_same_words_differ_by_what_they_are_about() -> None:
    def asked(context: str | None, subject: str = "", answer: str = "four") -> Question:
        return Question("How many are left?", answer, context, subject=subject or "How many ...")

    used = [asked("Ann had five.", "ann")]
    other = asked("Tom had nine.", "tom")
    kept, left_out = unseen("mine", [other, asked("Ann had five.", "x"), other], used)
    assert kept == [other, other]
    assert left_out.first == {"it is probed or tuned on": "'How many are left?'"}
    for same in (asked(None), asked("Ann had 5.", "ann"), BinaryExample(other.question, True)):
        assert unseen("mine", [other, same], used)[0] == [other]
