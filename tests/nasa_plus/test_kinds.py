"""Pairs differ in the answer alone, and none of their subjects is evaluated."""

import re

import pytest

from nasalign.data.records import Question, Split, load_facts, load_relations, split_of
from nasalign.nasa_plus.anchors import (
    LONG,
    NAMED,
    ORDER,
    SAME,
    STATEMENTS,
    anchors,
    compared_pairs,
    context_pairs,
    direct_pairs,
    negated_pairs,
    number_pairs,
    unknowable_pairs,
)
from nasalign.nasa_plus.joint_run import ONE_FOR
from nasalign.nasa_plus.kinds import held_back, pairs_of

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


def test_a_negated_pair_affirms_the_wrong_answer() -> None:
    norway = fact("capital", "Norway")
    [pair] = negated_pairs([norway], FACTS, 0)
    assert pair.right.negated
    assert pair.wrong.negated
    assert (pair.wrong.answer, pair.wrong.label) == ("Oslo", False)
    assert pair.right.answer != "Oslo"
    assert pair.right.label


def test_a_long_context_has_as_many_statements_as_are_asked_for() -> None:
    for pair in context_pairs(FACTS[:6], FACTS, 0, LONG):
        assert len(re.findall(r"\w{3,}\.(?: |$)", str(pair.right.context))) >= LONG - 3


def test_two_subjects_are_compared_as_they_are() -> None:
    facts = {(one.kind, one.subject): one.answer for one in FACTS}
    texts = {kind: text.split("{}") for kind, text in (SAME | ORDER).items()}
    seen = set()
    for pair in compared_pairs(FACTS, 300, 0):
        sides = set()
        for example in (pair.right, pair.wrong):
            [(kind, found)] = {  # a name may hold "and"
                (kind, named.groups())
                for kind, parts in texts.items()
                for any_name in ("(.+)", "(.+?)")
                if (named := re.fullmatch(any_name.join(map(re.escape, parts)), example.question))
                and all((kind, name) in facts for name in named.groups())
            }
            one, other = (facts[kind, name] for name in found)
            same = one == other if kind in SAME else float(one) > float(other)
            assert example.label is same
            sides |= {held_back(name.casefold(), 0) for name in found}
            seen.add(kind)
        assert len(sides) == 1
    assert seen == SAME.keys() | ORDER.keys()


def test_of_a_made_up_name_nothing_is_known() -> None:
    known = {one.subject.casefold() for one in load_facts()}
    pairs = unknowable_pairs(FACTS, 2 * len(NAMED), 0)
    for pair in pairs:
        assert pair.subject not in known
        assert pair.right.question == pair.wrong.question
        assert pair.right.answer != pair.wrong.answer
    assert len({pair.subject for pair in pairs}) == len(pairs)


@pytest.mark.parametrize("split", ["probing", "development"])
def test_anchors_are_of_one_split_and_of_the_sizes_that_are_asked_for(split: Split) -> None:
    sizes = {kind: 10 + 2 * part for kind, part in ONE_FOR.items()}
    kinds = anchors(sizes, 0, split)
    found = {kind: len(pairs) for kind, pairs in kinds.items()}
    assert found == {kind: size for kind, size in sizes.items() if kind in found}
    assert sizes.keys() - found.keys() == {"known", "unknown"}
    of_facts = found.keys() - {"numbers", "unknowable"}
    assert all(split_of(pair.subject) == split for kind in of_facts for pair in kinds[kind])
    assert kinds == anchors(sizes, 0, split)
    assert kinds != anchors(sizes, 1, split)
    drawn = [
        pair.right for kind in ("direct", "negated", "context", "long") for pair in kinds[kind]
    ]
    assert len({(one.question, one.answer, one.context) for one in drawn}) == len(drawn)


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
