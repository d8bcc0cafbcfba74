"""A wrong answer is of the type and the form of the right one, and is never right."""

import hashlib
import json
import math
import random
import re
from collections import defaultdict

import pytest

from nasalign.data.binary import to_binary
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


HOTPOT = [
    ("Which city is it in?", "Oslo"),
    ("What city lies there?", "Bergen"),
    ("Who directed Jaws?", "Steven Spielberg"),
    ("Who directed Alien?", "Ridley Scott"),
    ("What actress was in it?", "Jodie Foster"),
    ("Which actress sang?", "Doris Day"),
    ("What actor was in it?", "Tom Hanks"),
    ("Which county is it?", "Bear Lake County"),
    ("What county was it?", "Richland County"),
    ("Where was Ann educated?", "Eton College"),
    ("Where did Bob study?", "Yale University"),
    ("Which university is it?", "Rice University"),
    ("What company made it?", "Acme Records"),
    ("Which company was it?", "Hewlett Packard"),
    ("What is the name of the band that played?", "The Who"),
    ("Which band was first?", "The Cure"),
    ("Who does Ann play in the film?", "Snapper Foster"),
    ("Who did Bob play?", "Vito Corleone"),
]
POOL = [Question(asked, answer) for asked, answer in HOTPOT]


@pytest.mark.parametrize(
    ("asked", "answer", "others"),
    [
        ("In which city was she born?", "Paris", {"Oslo", "Bergen"}),
        ("Ann lives in what city?", "Paris", {"Oslo", "Bergen"}),
        ("Who directed Psycho?", "Alfred Hitchcock", {"Steven Spielberg", "Ridley Scott"}),
        ("Which actress won?", "Meryl Streep", {"Jodie Foster", "Doris Day"}),
        ("Who is the wife of Bob?", "Meryl Streep", {"Jodie Foster", "Doris Day"}),
        ("In what county is it?", "Duval County", {"Bear Lake County", "Richland County"}),
        ("Where was he educated?", "Keble College", {"Eton College"}),
        ("What is the name of the company that made it?", "Digital Media", {"Hewlett Packard"}),
        ("What is the name of the band?", "The Beatles", {"The Who", "The Cure"}),
        ("Who does he play in Jaws?", "Chief Brody", {"Snapper Foster", "Vito Corleone"}),
    ],
)
def test_it_is_of_the_type_that_is_asked_for(asked: str, answer: str, others: set[str]) -> None:
    question = Question(asked, answer)
    draws = {WrongAnswers([*POOL, question]).draw(question, random.Random(n)) for n in range(40)}
    assert draws
    assert draws <= others | {
        other for other in draws if asked.startswith("Who directed") and other in PEOPLE
    }


PEOPLE = {"Steven Spielberg", "Ridley Scott", "Jodie Foster", "Doris Day", "Tom Hanks"}


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("Which mountain is it?", "Mont Blanc"),  # no other mountain
        ("Who made it?", "Bank of America"),  # not a person
        ("What was the reason?", "a broken engine"),
        ("Who else but Tom did not direct it?", "Ann Smith"),  # others may be right
        ("Which case was first, Selle v. Gibb or Reynolds v. Sims?", "Brown v. Board"),
        ("Where is it?", "at the end of a road that leads to it"),
        ("What is it?", "The population is large"),
    ],
)
def test_a_question_without_a_wrong_answer_of_its_type_is_left_out(asked: str, answer: str) -> None:
    question = Question(asked, answer)
    with pytest.raises(Drop, match="no wrong answer of its type"):
        WrongAnswers([*POOL, question]).draw(question, random.Random(0))


@pytest.mark.parametrize(
    ("asked", "answer", "others"),
    [
        ("In which state is it?", "Kentucky", {"Ohio", "Texas", "New York"}),
        ("Of what nationality was she?", "Iranian", {"American", "Polish"}),
        ("What language is it in?", "French", {"Latin", "Tamil"}),
        ("What sport do they share?", "ice hockey", {"tennis", "golf"}),
        ("In what country is it?", "the Netherlands", {"France", "Ghana"}),
    ],
)
def test_a_closed_set_needs_no_pool(asked: str, answer: str, others: set[str]) -> None:
    question = Question(asked, answer)
    draws = {WrongAnswers([]).draw(question, random.Random(seed)) for seed in range(400)}
    assert others <= draws
    assert answer.removeprefix("the ") not in draws
    assert not {"Paris", "Tom Hanks"} & draws


def test_every_number_that_decides_is_changed() -> None:
    def changed(asked: str, answer: str) -> set[str]:
        return {WrongAnswers([]).draw(Question(asked, answer), random.Random(n)) for n in range(60)}

    for other in changed("What is its density?", "759.3/sq mi (293.2/km2)"):
        miles, metres = map(float, re.fullmatch(r"([\d.]+)/sq mi \(([\d.]+)/km2\)", other).groups())
        assert miles != 759.3
        assert metres != 293.2
        assert miles / metres == pytest.approx(759.3 / 293.2, rel=0.01)
    for other in changed("When did the team win the cup?", "1898 and 1959"):
        first, second = map(int, other.split(" and "))
        assert first - 1898 == second - 1959 != 0
    assert all(int(one) <= 2024 for one in changed("In what year was it after its number?", "2022"))
    for other in changed("How many live there?", "28,776 at the 2010 census"):
        assert re.fullmatch(r"\d\d,\d{3} at the 2010 census", other)
        assert not other.startswith("28,776")
    for other in changed("In which century?", "19th century"):
        assert other in {
            "15th century",
            "16th century",
            "17th century",
            "18th century",
            "20th century",
        }
    assert changed("When did it rise?", "early 1970s") == {"early 1950s", "early 1960s"}
    with pytest.raises(Drop):
        changed("Which organisation is it?", "MI6")


@pytest.mark.parametrize(
    ("asked", "answer", "possible"),
    [
        ("Compute $\\sin 180^\\circ$.", "0", lambda one: abs(one) <= 1),
        ("Compute $\\cos 60^\\circ.$", "\\frac{1}{2}", lambda one: abs(one) <= 1),
        ("What is the probability of heads?", "\\frac{3}{4}", lambda one: 0 < one < 1),
        ("What is the units digit of $19^{19}$?", "9", lambda one: 0 < one < 10),
        ("What is the remainder when 50 is divided by 7?", "1", lambda one: 0 < one < 7),
        ("What percent of it is red?", "90", lambda one: one <= 100),
        ("What is the smallest four-digit integer?", "1000", lambda one: one >= 1000),
        ("What is the smallest prime number?", "23", lambda one: one in PRIMES),
    ],
)
def test_a_wrong_value_is_possible(asked: str, answer: str, possible: object) -> None:
    assert callable(possible)
    for seed in range(60):
        other = WrongAnswers([]).draw(Question(asked, answer), random.Random(seed))
        plain = re.sub(r"\\sqrt\{(\d+)\}", r"\1**0.5", other)
        plain = re.sub(r"\\frac\{([^{}]*)\}\{(\d+)\}", r"(\1)/\2", plain)
        assert possible(eval(plain)), other


PRIMES = {11, 13, 17, 19, 29, 31, 37, 41, 43}


@pytest.mark.parametrize(
    "answer",
    ["11\\sqrt{2}", "3\\sqrt{5}", "2x+1", "y^4-2y^3+7y^2+y-5", "\\frac{5}{6}", "\\frac59", "4\\pi"],
)
def test_a_formula_is_one_that_is_written_so(answer: str) -> None:
    for other in drawn(Question("Find it.", answer), seeds=80):
        assert not re.search(r"sqrt\{?(1|4|8|9|12)\}?(?!\d)|(?<!\d)1(x|\\sqrt|\\pi)|\^1", other), (
            other
        )
        assert re.findall(r"\^\d", other) == re.findall(r"\^\d", answer)
        for above, below in re.findall(r"\\frac\{?(\d)\}?\{?(\d+)\}?", other):
            assert math.gcd(int(above), int(below)) == 1


def test_parts_of_a_list_stay_apart() -> None:
    for other in drawn(Question("Find all.", "-3, -2, \\frac{1}{3}"), seeds=60):
        assert len({part.strip() for part in other.split(",")}) == 3


def test_wrong_answers_to_the_facts_are_what_they_were() -> None:
    """The demonstration draws them; this is the digest before answers had types."""
    drawn = hashlib.sha256()
    for split in (None, "probing", "test"):
        for seed in range(2):
            examples = to_binary(load_facts(split), seed, load_facts()).examples
            drawn.update(json.dumps([[e.question, e.answer, e.label] for e in examples]).encode())
    assert drawn.hexdigest() == "7f2ba4e73ac26128ce2bb02c4310911f7d6a3f90b4aa83ebb9966ef526ea7b67"
