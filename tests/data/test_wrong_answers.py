"""A wrong answer is of the type and the form of the right one, and is never right."""

import math
import random
import re
from collections import defaultdict

import pytest

from nasalign.data.judge import matches, normalise
from nasalign.data.reading import Drop
from nasalign.data.records import Question, load_facts
from nasalign.data.wrong_answers import WrongAnswers

SEEDS = range(3)


def question(answer: str, *aliases: str, kind: str = "", wrong: str | None = None) -> Question:
    return Question(f"What is {answer}?", answer, aliases=aliases, kind=kind, wrong_answer=wrong)


def drawn(asked: Question, *others: str, seeds: int = 40) -> set[str]:
    pool = [asked, *(question(other) for other in others)]
    return {WrongAnswers(pool).draw(asked, random.Random(seed)) for seed in range(seeds)}


def test_a_wrong_answer_is_of_the_same_kind_and_decided_by_the_seed() -> None:
    pool = [question(str(number), kind="number") for number in range(100, 120)]
    pool += [question("Paris", kind="capital"), question("Rome", kind="capital")]
    draws = [WrongAnswers(pool).draw(pool[0], random.Random(seed)) for seed in range(50)]
    again = [WrongAnswers(pool[::-1]).draw(pool[0], random.Random(seed)) for seed in range(50)]
    assert draws == again  # whatever the order of the pool
    assert len(set(draws)) > 10
    assert set(draws) <= {str(number) for number in range(101, 120)}


def test_a_wrong_answer_neither_is_nor_holds_nor_stands_in_the_right_one() -> None:
    right = question("US dollar", "greenback", kind="currency")
    others = ["US Dollar", "dollar", "the US dollar bill", "Greenback", "euro", "yen"]
    pool = [right, *(question(other, kind="currency") for other in others)]
    drawn = {WrongAnswers(pool).draw(right, random.Random(seed)) for seed in range(40)}
    assert drawn == {"euro", "yen"}


def test_the_wrong_answer_of_the_data_comes_first() -> None:
    right = question("Rome", wrong="Pisa")
    assert WrongAnswers([right, question("Turin")]).draw(right, random.Random(0)) == "Pisa"
    assert WrongAnswers([]).draw(right, random.Random(0)) == "Pisa"
    with pytest.raises(Drop, match="its wrong_answer is right"):
        WrongAnswers([]).draw(question("Rome", wrong="the Rome"), random.Random(0))


@pytest.mark.parametrize("others", [[], ["Rome"], ["the ROME"], ["Old Rome"]])
def test_without_a_wrong_answer_the_question_is_dropped(others: list[str]) -> None:
    right = question("Rome", kind="capital")
    pool = [right, question("Berlin", kind="city"), *(question(o, kind="capital") for o in others)]
    with pytest.raises(Drop, match="give the column wrong_answer"):
        WrongAnswers(pool).draw(right, random.Random(0))


def test_no_wrong_answer_to_any_fact_is_right() -> None:
    """The property that keeps the labels of the embedded data true."""
    by_kind = defaultdict(list)
    for fact in load_facts():
        by_kind[fact.kind].append(fact)
    draws = 0
    for pool in by_kind.values():
        answers = {fact.answer for fact in pool}
        wrong_answers = WrongAnswers(pool)
        for fact in pool:
            spellings = {normalise(right) for right in (fact.answer, *fact.aliases)}
            for wrong in {wrong_answers.draw(fact, random.Random(seed)) for seed in SEEDS}:
                draws += 1
                assert wrong in answers
                assert normalise(wrong) not in spellings, fact
                assert not matches(wrong, fact), (wrong, fact)
                for right in (fact.answer, *fact.aliases):
                    assert not matches(right, question(wrong)), (wrong, fact)
    assert draws > 2 * len(load_facts())


def test_another_option_is_taken_though_options_hold_one_another() -> None:
    asked = Question("Who?", "Q and R", options=("Q", "Q and R", "q and r", "S"))
    assert drawn(asked) == {"Q", "S"}
    with pytest.raises(Drop, match="all its options are right"):
        WrongAnswers([]).draw(Question("Who?", "Q", options=("Q", "q")), random.Random(0))


@pytest.mark.parametrize(
    ("asked", "answer", "other"),
    [
        ("Who is older, Annie Morton or Terry Richardson?", "Terry Richardson", "Annie Morton"),
        ("Which is larger: Rome or the city of Pisa?", "Rome", "the city of Pisa"),
    ],
)
def test_the_other_side_of_a_choice_comes_first(asked: str, answer: str, other: str) -> None:
    assert drawn(Question(asked, answer), "Someone Else") == {other}


@pytest.mark.parametrize(
    ("answer", "pattern"),
    [
        ("12", r"\d{1,2}"),
        ("$72,641", r"\$\d{2,3},\d{3}"),
        ("2,125 yards", r"\d,\d{3} yards|\d{3},\d{3} yards"),
        ("48%", r"\d+%"),
        ("0.50", r"\d\.\d0"),
        ("about 7 million", r"about \d+ million"),
        ("16th - century", r"\d+(st|nd|rd|th) - century"),
        ("7,531", r"\d+,\d{3}"),
        ("July 1, 2008", r"July 1, 20\d\d|July 1, 199\d"),
        ("-3", r"-\d"),
        ("98,\\!770", r"\d{2,3},\\!\d{3}"),
        ("664_7", r"[0-6]{3,4}_7"),
        ("1011_2", r"[01]+_2"),
        ("\\frac{3}{4}", r"\\frac\{\d+\}\{\d+\}"),
        ("8\\frac47", r"8\\frac\d\d"),
        ("\\sqrt{65}", r"\\sqrt\{\d+\}"),
        ("162\\text{ minutes}", r"\d+\\text\{ minutes\}"),
        ("season three", r"season [a-z]+"),
        ("Friday", r"[A-Z][a-z]+day"),
        ("\\text{odd}", r"\\text\{even\}"),
        ("\\text{(C)}", r"\\text\{\([ABDE]\)\}"),
        ("42", r"\d+"),
    ],
)
def test_it_has_the_form_of_the_right_one(answer: str, pattern: str) -> None:
    wrong = drawn(question(answer), "Rome", "a word")
    assert all(re.fullmatch(pattern, other) for other in wrong), wrong
    assert answer not in wrong


@pytest.mark.parametrize("answer", ["18", "140000", "3.5", "0", "1", "25", "1999"])
def test_a_number_is_near_and_as_round(answer: str) -> None:
    for other in drawn(question(answer), seeds=60):
        assert float(other) != float(answer)
        assert float(other) > 0
        assert abs(float(other) - float(answer)) <= max(3, 0.51 * float(answer)) + 0.5
        assert len(other.rstrip("0")) <= len(answer.rstrip("0")) + 1


def test_a_year_stays_near() -> None:
    asked = Question("In what year was he born?", "1961")
    assert all(1949 <= int(other) <= 1973 for other in drawn(asked))


def test_a_fraction_stays_in_lowest_terms() -> None:
    for other in drawn(question("\\frac{3}{4}"), seeds=80):
        above, below = map(int, other.removeprefix("\\frac{").rstrip("}").split("}{"))
        assert math.gcd(above, below) == 1
        assert below > 1
        assert above / below != 0.75


def test_a_like_question_lends_its_answer() -> None:
    asked = Question("Which county holds Stanley?", "Mountrail County")
    pool = [asked, Question("Which county holds Paris?", "Bear Lake County")]
    pool += [Question("Who wrote Emma?", "Jane Austen"), Question("Which colour?", "dark red")]
    draws = {WrongAnswers(pool).draw(asked, random.Random(seed)) for seed in range(20)}
    assert draws == {"Bear Lake County"}


def test_nothing_of_the_form_is_left() -> None:
    with pytest.raises(Drop, match="no wrong answer of its type"):
        drawn(question("\\pi"), "\\pi", "Rome")
    with pytest.raises(Drop, match="no wrong answer of its type"):
        drawn(question("Rome"), "Old Rome")
