"""A free answer is judged by whole words, or by what a language model says of it."""

import pytest

from nasalign.data.judge import matches, normalise, yes_or_no
from nasalign.data.records import Question, load_facts


def question(answer: str, *aliases: str) -> Question:
    return Question(f"What is {answer}?", answer, aliases=aliases)


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
        ("It is _Paris_.", "Paris"),
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
        ("3.5", "3"),
        ("15", "-15"),
        ("Vitamin C", "Vitamin A"),
    ],
)
def test_a_part_of_a_word_or_another_word_is_wrong(prediction: str, answer: str) -> None:
    assert not matches(prediction, question(answer))


def test_an_alias_is_right_by_the_same_rules() -> None:
    lithium = question("lithium", "Li", "element 3")
    assert matches("The symbol is Li", lithium)
    assert matches("Lithium.", lithium)
    assert not matches("li", lithium)
    assert not matches("element 33", lithium)


def test_every_fact_matches_its_own_spellings() -> None:
    for fact in load_facts():
        for right in (fact.answer, *fact.aliases):
            assert matches(f"I think it is {right}.", fact), fact


CHOICE = Question("Who sits first?", "Q", options=("P", "Q and R", "Q", "none of them"))


RIGHT = ["C", "(C)", "C.", "The answer is (C).", "It is Q.", "C) Q"]
WRONG = ["B", "(A) and not Q", "Q and R", "Certainly not", "Quite so", "", "E", "(Z)"]


@pytest.mark.parametrize("prediction", RIGHT + WRONG)
def test_an_option_is_named_by_its_letter_or_its_text(prediction: str) -> None:
    assert matches(prediction, CHOICE) == (prediction in RIGHT)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("Yes", True),
        ("yes.", True),
        (" **No**, it is not", False),
        ("NO", False),
        ("Nothing", None),
        ("Yesterday", None),
        ("I would say yes", None),
        ("", None),
        (None, None),
    ],
)
def test_a_verdict_is_read_and_never_guessed(answer: str | None, verdict: bool | None) -> None:
    assert yes_or_no(answer) is verdict
