"""Verdicts are read off three probabilities, and off the end of a chain of thought."""

import math
from dataclasses import replace

import pytest

from nasalign.inference.verdicts import final_line, likeliest, parse_final, parse_verdict
from nasalign.prompts.wordings import UNSURE, VOCABULARIES, Vocabulary

YES_NO = VOCABULARIES["yes/no"]


@pytest.mark.parametrize(
    ("probabilities", "verdict"),
    [
        ((0.5, 0.2), "positive"),
        ((0.2, 0.5), "negative"),
        ((0.2, 0.2), "invalid"),
        ((0.0, 0.0), "invalid"),
        ((math.nan, math.nan), "invalid"),
        ((0.5, 0.2, 0.3), "positive"),
        ((0.2, 0.3, 0.5), "unsure"),
        ((0.4, 0.1, 0.4), "invalid"),
    ],
)
def test_the_greatest_probability_is_the_verdict(
    probabilities: tuple[float, ...], verdict: str
) -> None:
    assert likeliest(*probabilities) == verdict


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("I don't know", "unsure"),
        ("I don\u2019t know.", "unsure"),
        ("i do not know", "unsure"),
        ("Sorry, I don't know that", "unsure"),
        ("I don't know if Yes or No", "unsure"),
        ("Yes, though I don't know why", "positive"),
        ("No", "negative"),
        ("It is Yes, but I don't know why", "invalid"),
        ("I know", "invalid"),
        ("", "invalid"),
    ],
)
def test_not_to_know_is_a_third_answer_where_it_is_allowed(answer: str, verdict: str) -> None:
    assert parse_verdict(answer, replace(YES_NO, unsures=(UNSURE,))) == verdict
    assert parse_verdict(answer, YES_NO) != "unsure"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Paris is in France. No doubt.\nAnswer: Yes", "positive"),
        ("It is not.\n**Answer:** No.\n", "negative"),
        ("Answer: No\nBut wait, it is.\nFinal answer: **Yes**", "positive"),
        ("So the answer is no.", "negative"),
        ("The correct answer to the question is: Yes, Paris.", "positive"),
        ("ANSWER:\n\nYES", "positive"),
        ("First, we think.\nNo.", "negative"),
        ("Yes, Paris is the capital.", "positive"),
        ("yes", "positive"),
        ("I will end with Answer: Yes or Answer: No.", "invalid"),
        ('I will say "Answer: Yes" or "Answer: No".\nAnswer: No', "negative"),
        ("Answer: Yes or No", "invalid"),
        ("No country is larger, and so on", "invalid"),  # cut off before it ends
        ("Is the answer Paris? We do not know", "invalid"),
        ("The answer is not Paris", "invalid"),
        ("The answer is no longer valid", "invalid"),
        ("Answer: Nothing", "invalid"),
        ("", "invalid"),
    ],
)
def test_the_end_of_a_chain_of_thought_is_its_verdict(text: str, verdict: str) -> None:
    assert parse_final(text, YES_NO) == verdict


def test_a_chain_of_thought_is_read_in_other_words() -> None:
    assert parse_final("Yes.\nAnswer: False", VOCABULARIES["true/false"]) == "negative"
    assert parse_final("Answer: Yes", VOCABULARIES["true/false"]) == "invalid"


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("We think.\nAnswer: No\n", True),
        ("**Final answer:** Yes, it is.\n", True),
        ("We think.\nAnswer: No", False),  # the word may go on
        ("Answer: Nothing\n", False),
        ("Answer: Yes or Answer: No.\n", False),
        ("So the answer is Yes\n", False),  # a line of its own was asked for
    ],
)
def test_a_chain_of_thought_ends_with_its_last_line(text: str, ends: bool) -> None:
    assert (final_line(YES_NO).search(text) is not None) == ends


@pytest.mark.parametrize(
    ("words", "answer", "verdict"),
    [
        ("Ja/Nein", "Ja, das ist so.", "positive"),
        ("Ja/Nein", "nein", "negative"),
        ("Ja/Nein", "Jahre sp\u00e4ter", "invalid"),
        ("\u662f/\u5426", "\u662f\u7684\u3002", "positive"),
        ("\u662f/\u5426", "\u5426\uff0c\u4e0d\u5bf9", "negative"),
        ("Yes|True/No|False", "The claim is True.", "positive"),
        ("Yes|True/No|False", "False", "negative"),
        ("Relevant/Not relevant", "Not relevant", "negative"),
        ("Relevant/Not relevant", "relevant.", "positive"),
        ("Yes/No/Unsure", "Unsure.", "unsure"),
        ("Yes/No/Unsure", "I think Unsure, as No is wrong", "invalid"),
    ],
)
def test_a_text_is_read_in_the_words_of_the_user(words: str, answer: str, verdict: str) -> None:
    assert parse_verdict(answer, Vocabulary.of(words)) == verdict
