"""Pairs differ in the answer alone, and none of their subjects is evaluated."""

import re

import pytest

from nasalign.data.records import Question, load_facts, load_relations, split_of
from nasalign.nasa_plus.kinds import (
    STATEMENTS,
    anchors,
    context_pairs,
    direct_pairs,
    number_pairs,
    pairs_of,
)

FACTS = load_facts("probing")


def fact(kind: str, subject: str) -> Question:
    return next(one for one in load_facts() if (one.kind, one.subject) == (kind, subject))


def test_a_pair_has_the_right_and_a_wrong_answer_to_one_question() -> None:
    for question, pair in zip(FACTS, pairs_of(FACTS, FACTS, 0), strict=True):
        assert pair.right.label
        assert not pair.wrong.label
        assert pair.right.question == pair.wrong.question == question.question
        assert pair.right.answer == question.answer != pair.wrong.answer
        assert pair.subject == question.subject.casefold().strip()


def test_a_question_without_a_wrong_answer_gives_no_pair_and_shifts_none() -> None:
    lonely = Question("What?", "nothing", kind="lonely", subject="lonely")
    asked = [FACTS[0], lonely, FACTS[1]]
    pairs = pairs_of(asked, [*FACTS, lonely], 0)
    assert [pair.subject for pair in pairs if pair.right.question == FACTS[1].question] == [
        FACTS[1].subject.casefold()
    ]


def test_a_fact_is_asked_directly() -> None:
    norway = fact("capital", "Norway")
    [pair] = direct_pairs([norway], FACTS, 0)
    assert pair.right.question == "Is Oslo the capital of Norway?"
    assert pair.wrong.question == f"Is {pairs_of([norway], FACTS, 0)[0].wrong.answer} " + (
        "the capital of Norway?"
    )
    assert pair.right.answer is None
    assert pair.wrong.answer is None


def test_a_context_is_the_same_for_both_and_states_the_right_answer_both_or_none() -> None:
    norway = fact("capital", "Norway")
    pairs = context_pairs([norway] * 6, FACTS, 0)
    for place, pair in enumerate(pairs):
        context = str(pair.right.context)
        assert pair.wrong.context == context
        assert context.count(". ") == STATEMENTS - 1
        assert ("Oslo is the capital of Norway." in context) == (place % 3 < 2)
        wrong = str(pairs_of([norway] * 6, FACTS, 0)[place].wrong.answer)
        assert (f"{wrong} is the capital of " in context) == (place % 3 == 1)
        assert pair.right.answer == ("Oslo", None)[place % 2]


def test_anchors_are_of_the_probing_split_and_of_two_kinds() -> None:
    sizes = {"direct": 30, "context": 40, "numbers": 20, "known": 10}
    kinds = anchors(sizes, 0)
    assert {kind: len(pairs) for kind, pairs in kinds.items()} | {"known": 10} == sizes
    assert "known" not in kinds
    facts = kinds["direct"] + kinds["context"]
    assert all(split_of(pair.subject) == "probing" for pair in facts)
    assert kinds == anchors(sizes, 0)
    assert kinds != anchors(sizes, 1)


def test_sums_are_right_and_wrong_ones_are_not() -> None:
    signs = {"plus": "+", "more": "+", "total": "+", "times": "*", "each": "*"}
    pairs = number_pairs(80, 0)
    for pair in pairs:
        a, b = (int(word) for word in re.findall(r"\d+", pair.right.question))
        sign = next((signs[word] for word in signs if word in pair.right.question), "-")
        result = {"+": a + b, "-": a - b, "*": a * b}[sign]
        assert pair.right.answer == str(result)
        assert pair.wrong.answer != str(result)
        assert int(str(pair.wrong.answer)) > 0
    assert len({pair.right.question for pair in pairs}) > 70


@pytest.mark.parametrize("kind", load_relations())
def test_each_relation_is_worded_with_subject_and_object(kind: str) -> None:
    relation = load_relations()[kind]
    for text, mark in ((relation.direct, "?"), (relation.statement, ".")):
        assert text.count("{subject}") == text.count("{object}") == 1
        assert text.endswith(mark)
