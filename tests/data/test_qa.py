"""Splits by subject never change, and the embedded facts are questions."""

import pytest

from nasalign.data.records import SPLIT_SHARES, BinaryExample, lettered, load_facts, split_of
from nasalign.errors import DataError


def test_the_splits_share_no_subject_and_are_the_whole() -> None:
    parts = {split: load_facts(split) for split in SPLIT_SHARES}
    subjects = {split: {fact.subject for fact in part} for split, part in parts.items()}
    assert subjects["probing"] & subjects["development"] == set()
    assert subjects["probing"] & subjects["test"] == set()
    assert subjects["development"] & subjects["test"] == set()
    everything = load_facts()
    assert sum(map(len, parts.values())) == len(everything)
    assert set().union(*parts.values()) == set(everything)
    for split, share in SPLIT_SHARES.items():
        assert len(parts[split]) / len(everything) == pytest.approx(share, abs=0.03)


def test_a_subject_never_changes_its_split() -> None:
    """Published figures rest on these: a change of the hash moves what was evaluated."""
    assert split_of("France") == split_of(" FRANCE ") == "probing"
    assert split_of("oxygen") == "test"
    assert split_of("Italy") == "development"


def test_facts_are_questions_about_their_subject() -> None:
    facts = {(fact.kind, fact.subject): fact for fact in load_facts()}
    paris = facts["capital", "France"]
    assert paris.question == "What is the capital of France?"
    assert (paris.answer, paris.context, paris.wrong_answer) == ("Paris", None, None)
    assert any(fact.aliases for fact in facts.values())
    assert all("" not in fact.aliases for fact in facts.values())


def test_options_are_shown_with_letters() -> None:
    assert lettered(["red", "blue"]) == ["(A) red", "(B) blue"]
    assert lettered([]) == []


def test_a_label_that_is_not_known_is_refused_where_it_is_needed() -> None:
    assert BinaryExample("Is it?", False).known_label is False
    with pytest.raises(DataError, match=r"The example 'Is it\?' has no label"):
        assert BinaryExample("Is it?", None).known_label
