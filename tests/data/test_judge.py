"""A free answer is judged by whole words, and a wrong answer is never a right one."""

import random
from collections import Counter, defaultdict

import pytest

from nasalign.data.binary import negative_example, sample, to_binary
from nasalign.data.judge import matches, normalise, wrong_answer
from nasalign.data.qa import BinaryExample, Question, load_facts
from nasalign.errors import DataError

SEEDS = range(3)


def question(answer: str, *aliases: str, kind: str = "", wrong: str | None = None) -> Question:
    return Question(f"What is {answer}?", answer, aliases=aliases, kind=kind, wrong_answer=wrong)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("  The   Côte d'Ivoire. ", "cote divoire"),
        ("St. John\u2019s", "st johns"),
        ("A man, AN apple; the end", "man apple end"),
        ("Another theatre", "another theatre"),
        ("1,234,567 people", "1234567 people"),
        ("1, 2, 3", "1 2 3"),
        ("Straße — ﬁn", "strasse fin"),
        ("3,14", "3 14"),
        ("", ""),
        ("?!", ""),
    ],
)
def test_a_text_is_normalised(text: str, plain: str) -> None:
    assert normalise(text) == plain
    assert normalise(plain) == plain


@pytest.mark.parametrize(
    ("prediction", "answer"),
    [
        ("The capital is Paris.", "Paris"),
        ("**PARIS**", "Paris"),
        ("It is São Paulo", "Sao Paulo"),
        ("Bogota", "Bogotá"),
        ("the United States of America!", "United States of America"),
        ("It is in Netherlands", "the Netherlands"),
        ("There are 1,234 of them", "1234"),
        ("1234", "1,234"),
        ("St Johns", "St. John's"),
        ("Niger.", "Niger"),
        ("about 6 legs", "6"),
        ("The symbol is As.", "As"),
        ('"K"', "K"),
        ("(XL)", "XL"),
    ],
)
def test_an_answer_among_other_words_is_right(prediction: str, answer: str) -> None:
    assert matches(prediction, question(answer))


@pytest.mark.parametrize(
    ("prediction", "answer"),
    [
        ("Nigeria", "Niger"),
        ("Niger", "Nigeria"),
        ("Paris, or London", "Berlin"),
        ("Paulo Sao", "Sao Paulo"),
        ("16", "6"),
        ("1,234", "234"),
        ("it is as I said", "As"),
        ("Asia", "As"),
        ("no", "No"),
        ("k", "K"),
        ("", "Paris"),
        ("the", "Paris"),
    ],
)
def test_a_part_of_a_word_or_another_word_is_wrong(prediction: str, answer: str) -> None:
    assert not matches(prediction, question(answer))


@pytest.mark.parametrize(
    ("prediction", "answer"),
    [("3.5", "3"), ("15", "-15"), ("Vitamin C", "Vitamin A")],
)
def test_another_number_or_letter_is_wrong(prediction: str, answer: str) -> None:
    assert not matches(prediction, question(answer))


def test_an_answer_in_markdown_italics_is_right() -> None:
    assert matches("It is _Paris_.", question("Paris"))


def test_an_alias_is_right_by_the_same_rules() -> None:
    lithium = question("lithium", "Li", "element 3")
    assert matches("The symbol is Li", lithium)
    assert matches("Lithium.", lithium)
    assert not matches("li", lithium)
    assert not matches("element 33", lithium)


def test_a_wrong_answer_is_of_the_same_kind_and_decided_by_the_seed() -> None:
    pool = [question(str(number), kind="number") for number in range(100, 120)]
    pool += [question("Paris", kind="capital"), question("Rome", kind="capital")]
    drawn = [wrong_answer(pool[0], pool, random.Random(seed)) for seed in range(50)]
    again = [wrong_answer(pool[0], pool[::-1], random.Random(seed)) for seed in range(50)]
    assert drawn == again  # whatever the order of the pool
    assert len(set(drawn)) > 10
    assert set(drawn) <= {str(number) for number in range(101, 120)}


def test_a_wrong_answer_neither_is_nor_holds_nor_stands_in_the_right_one() -> None:
    right = question("US dollar", "greenback", kind="currency")
    others = ["US Dollar", "dollar", "the US dollar bill", "Greenback", "euro", "yen"]
    pool = [right, *(question(other, kind="currency") for other in others)]
    drawn = {wrong_answer(right, pool, random.Random(seed)) for seed in range(40)}
    assert drawn == {"euro", "yen"}


def test_the_wrong_answer_of_the_data_comes_first() -> None:
    right = question("Rome", wrong="Pisa")
    assert wrong_answer(right, [right, question("Turin")], random.Random(0)) == "Pisa"
    assert wrong_answer(right, [], random.Random(0)) == "Pisa"


@pytest.mark.parametrize("others", [[], ["Rome"], ["the ROME"], ["Old Rome"]])
def test_without_a_wrong_answer_the_question_is_named(others: list[str]) -> None:
    right = question("Rome", kind="capital")
    pool = [right, question("Berlin", kind="city"), *(question(o, kind="capital") for o in others)]
    with pytest.raises(DataError, match=r"'What is Rome\?'.*give the column wrong_answer"):
        wrong_answer(right, pool, random.Random(0))


def test_no_wrong_answer_to_any_fact_is_right() -> None:
    """The property that keeps the labels of the embedded data true."""
    by_kind = defaultdict(list)
    for fact in load_facts():
        by_kind[fact.kind].append(fact)
    draws = 0
    for pool in by_kind.values():
        answers = {fact.answer for fact in pool}
        for fact in pool:
            spellings = {normalise(right) for right in (fact.answer, *fact.aliases)}
            for wrong in {wrong_answer(fact, pool, random.Random(seed)) for seed in SEEDS}:
                draws += 1
                assert wrong in answers
                assert normalise(wrong) not in spellings, fact
                assert not matches(wrong, fact), (wrong, fact)
                for right in (fact.answer, *fact.aliases):
                    assert not matches(right, question(wrong)), (wrong, fact)
    assert draws > 2 * len(load_facts())


def test_every_fact_matches_its_own_spellings() -> None:
    for fact in load_facts():
        for right in (fact.answer, *fact.aliases):
            assert matches(f"I think it is {right}.", fact), fact


def test_the_binary_form_is_balanced_and_keeps_yes_no_examples() -> None:
    facts = sample(load_facts("test"), 200, seed=1)
    given = BinaryExample("Is ice cold?", True)
    examples = to_binary([given, *facts], seed=3, pool=load_facts())
    assert examples[0] is given
    assert Counter(example.label for example in examples[1:]) == {True: 200, False: 200}
    for fact, right, wrong in zip(facts, examples[1::2], examples[2::2], strict=True):
        assert (right.question, right.answer, right.label) == (fact.question, fact.answer, True)
        assert (wrong.question, wrong.label) == (fact.question, False)
        assert not matches(str(wrong.answer), fact)


def test_the_binary_form_is_decided_by_the_seed() -> None:
    facts = load_facts("development")[:60]
    assert to_binary(facts, seed=3) == to_binary(facts, seed=3)
    assert to_binary(facts, seed=3) != to_binary(facts, seed=4)
    assert to_binary(facts, seed=3)[::2] == to_binary(facts, seed=4)[::2]


def test_the_context_goes_along() -> None:
    asked = Question("Where?", "Rome", context="It is in Italy.", wrong_answer="Pisa")
    assert [example.context for example in to_binary([asked], seed=0)] == ["It is in Italy."] * 2
    assert negative_example(asked, [], random.Random(0)).answer == "Pisa"


def test_a_sample_keeps_the_order_and_is_decided_by_the_seed() -> None:
    numbers = list(range(100))
    drawn = sample(numbers, 10, seed=0)
    assert len(set(drawn)) == 10
    assert drawn == sorted(drawn)
    assert drawn == sample(numbers, 10, seed=0)
    assert drawn != sample(numbers, 10, seed=1)
    assert sample(numbers, 100, seed=0) == sample(numbers, 200, seed=0) == numbers
