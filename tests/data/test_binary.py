"""Questions become balanced decisions, by rules or by what a language model writes."""

from collections import Counter
from collections.abc import Sequence

import pytest

from nasalign.data.binary import positive_example, sample, to_binary
from nasalign.data.conversation import Conversation
from nasalign.data.judge import matches
from nasalign.data.records import BinaryExample, Question, load_facts


def test_the_binary_form_is_balanced_decided_by_the_seed_and_keeps_yes_no_examples() -> None:
    facts = sample(load_facts("test"), 200, seed=1)
    given = BinaryExample("Is ice cold?", True)
    examples, again, other = (
        to_binary([given, *facts], seed=seed, pool=load_facts()).examples for seed in (3, 3, 4)
    )
    assert examples == again != other
    assert examples[1::2] == other[1::2]  # the right answers
    assert examples[0] is given
    assert Counter(example.label for example in examples[1:]) == {True: 200, False: 200}
    for fact, right, wrong in zip(facts, examples[1::2], examples[2::2], strict=True):
        assert (right.question, right.answer, right.label) == (fact.question, fact.answer, True)
        assert (wrong.question, wrong.label) == (fact.question, False)
        assert not matches(str(wrong.answer), fact)


def test_a_sample_keeps_the_order_and_is_decided_by_the_seed() -> None:
    numbers = list(range(100))
    drawn = sample(numbers, 10, seed=0)
    assert len(set(drawn)) == 10
    assert drawn == sorted(drawn)
    assert drawn == sample(numbers, 10, seed=0)
    assert drawn != sample(numbers, 10, seed=1)
    assert sample(numbers, 100, seed=0) == sample(numbers, 200, seed=0) == numbers


def test_one_side_a_question_is_balanced_and_decided_by_the_seed() -> None:
    facts = load_facts("test")[:101]
    binary = to_binary(facts, seed=0, sides="one")
    assert Counter(example.label for example in binary.examples) == {True: 51, False: 50}
    assert [example.question for example in binary.examples] == [fact.question for fact in facts]
    assert binary.origins == list(range(101))
    labels = [example.label for example in binary.examples]
    assert labels == [one.label for one in to_binary(facts, seed=0, sides="one").examples]
    assert labels != [one.label for one in to_binary(facts, seed=1, sides="one").examples]


def test_what_has_no_wrong_answer_is_dropped_whole_and_counted() -> None:
    odd = [Question("Capital?", "Rome", kind="capital", id="q7"), BinaryExample("Is it?", False)]
    asked = [*odd, Question("Two?", "2", id="q8"), Question("?", "Rome", wrong_answer="rome")]
    binary = to_binary(asked, seed=0)
    assert [example.id for example in binary.examples] == ["", "q8-yes", "q8-no"]
    assert binary.origins == [1, 2, 2]
    assert binary.dropped.counts == {
        "no other answer of its kind; give the column wrong_answer": 1,
        "its wrong_answer is right": 1,
    }
    assert list(binary.dropped.first.values()) == ["q7", "'?'"]


def test_a_question_without_a_wrong_answer_is_left_out_of_both_sides() -> None:
    asked = [Question(f"What was the reason for {n}?", "a broken part") for n in "abcdefgh"]
    asked += [Question(f"How many are in {n}?", f"{n}") for n in range(20, 60)]
    binary = to_binary(asked, seed=0, sides="one")
    assert sum(binary.dropped.counts.values()) == 8
    assert len(binary.examples) == 40
    assert sum(example.known_label for example in binary.examples) == 20


def test_ids_tell_the_sides_apart_and_the_context_goes_along() -> None:
    asked = [Question("Capital?", "Rome", "In Italy.", wrong_answer="Pisa", id="q1")]
    assert to_binary(asked, 0).examples == [
        BinaryExample("Capital?", True, "Rome", "In Italy.", "q1-yes"),
        BinaryExample("Capital?", False, "Pisa", "In Italy.", "q1-no"),
    ]
    assert [one.id for one in to_binary(asked, 0, sides="one").examples] == ["q1"]
    assert positive_example(asked[0]).answer == "Rome"


class Writer:
    """A generator that answers by what it was asked, and keeps it."""

    name = "writer"

    def __init__(self, *answers: str | None) -> None:
        self.answers = list(answers)
        self.asked: list[Conversation] = []

    def complete(
        self, conversations: Sequence[Conversation], progress: object = None
    ) -> list[str | None]:
        self.asked += conversations
        return [self.answers.pop(0) for _ in conversations]


def test_a_generator_writes_wrong_answers() -> None:
    asked = [
        Question("Capital of Italy?", "Rome", context="It lies on the Tiber.", id="a"),
        Question("Who?", "Ann", wrong_answer="Bob", id="b"),
        Question("How many?", "2", id="c"),
    ]
    writer = Writer('Wrong answer: "Pisa"\nbecause I say so', "7")
    binary = to_binary(asked, seed=0, generator=writer)
    assert [one.answer for one in binary.examples] == ["Rome", "Pisa", "Ann", "Bob", "2", "7"]
    assert [one.label for one in binary.examples] == [True, False] * 3
    assert writer.asked[0].user == (  # Table 13
        "Question: Capital of Italy?\nContext: It lies on the Tiber.\nAnswer: Rome\nWrong answer:"
    )
    assert writer.asked[1].user == "Question: How many?\nAnswer: 2\nWrong answer:"
    assert writer.asked[0].system.startswith("Generate the short wrong answer word")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("The \\frac{1}{2}", "the generator's answer is right"),
        ("0.5", "the generator's answer is right"),  # the same value
        ("", "the generator wrote no answer"),
        (None, "the generator wrote no answer"),
        ("word " * 60, "the generator's answer is too long"),
    ],
)
def test_a_useless_answer_of_a_generator_is_counted(answer: str | None, reason: str) -> None:
    asked = [Question("Half?", "\\frac{1}{2}", id="a"), Question("Capital?", "Oslo", id="b")]
    binary = to_binary(asked, seed=0, generator=Writer(answer, "Bergen"))
    assert [one.answer for one in binary.examples] == ["Oslo", "Bergen"]
    assert binary.dropped.counts == {reason: 1}


def test_a_generator_rewrites_questions_with_options() -> None:
    options = ("Klosnik", "Londi", "Manley")
    asked = [
        Question("Who sits first?", "Londi", context="Three people sit.", options=options, id="a"),
        Question("Who sits last?", "Manley", context="Three people sit.", options=options, id="b"),
    ]
    written = [
        "Three people sit. Can Londi sit first?",
        "If three people sit, does Klosnik sit first?",
        "Does Manley sit last?",
        "No.",
    ]
    writer = Writer(*written)
    binary = to_binary(asked, seed=0, generator=writer)
    assert [(one.question, one.label, one.answer) for one in binary.examples] == [
        ("Three people sit. Can Londi sit first?", True, None),
        ("If three people sit, does Klosnik sit first?", False, None),
    ]
    assert binary.dropped.counts == {"the generator wrote no question": 1}
    assert {one.context for one in binary.examples} == {None}  # once, as in Table 14
    assert writer.asked[0].user == (  # Table 13
        "Context: Three people sit.\nQuestion: Who sits first?\nAnswer: Londi\nConverted Question:"
    )
    assert "\nAnswer: Londi\n" not in writer.asked[1].user  # the wrong option
    assert writer.asked[0].system == writer.asked[1].system


def test_a_passage_that_the_generator_leaves_out_is_put_before_the_question() -> None:
    asked = Question("Who sits first?", "Ann", "Three people sit in a row.", options=("Ann", "Bob"))
    writer = Writer("Can Ann sit first?", "Can Bob sit first?")
    assert to_binary([asked], seed=0, generator=writer).examples == [
        BinaryExample("Three people sit in a row. Can Ann sit first?", True),
        BinaryExample("Three people sit in a row. Can Bob sit first?", False),
    ]


def test_the_task_is_named() -> None:
    asked = Question("Who?", "Ann", context="They sit.", options=("Ann", "Bob"))
    plain, given = Question("2?", "2"), BinaryExample("Is it?", True)
    assert to_binary([asked], 0).tasks == ("options to verify",)
    assert {one.context for one in to_binary([asked], 0).examples} == {"They sit."}
    written = to_binary([asked], 0, generator=Writer("Is it Ann?", "Is it Bob?"))
    assert written.tasks == ("rewritten questions",)
    assert to_binary([given, plain, given], 0).tasks == ("yes/no questions", "answers to verify")
