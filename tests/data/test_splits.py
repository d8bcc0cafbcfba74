"""What is probed is never evaluated, and each question gets the context that is asked for."""

from pathlib import Path

import pytest

import upstream
from nasalign.data.qa import BinaryExample, Question, split_of
from nasalign.data.reading import Dropped
from nasalign.data.sources import Loaded, load_data
from nasalign.data.splits import Splits, with_context
from nasalign.errors import DataError


def loaded(name: str, count: int = 200, origin: str = "") -> Loaded:
    records = [Question(f"{name} {n}?", f"{n}", subject=f"{name} {n}") for n in range(count)]
    return Loaded(name, [*records, BinaryExample("Is it?", True)], Dropped(), origin or name)


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


def test_the_sentence_names_both() -> None:
    said = Splits.of(loaded("gsm8k"), loaded("facts")).sentence
    assert "of facts; evaluated are 201 of gsm8k (whole)" in said


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
