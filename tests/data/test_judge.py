"""A free answer is judged by whole words, or by what a language model says of it."""

from collections.abc import Sequence

import pytest

from nasalign.data.choices import sides_of
from nasalign.data.conversation import Conversation
from nasalign.data.judge import includes, judge, matches, normalise, yes_or_no
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


OLDER = Question("Who is older, Tom Coburn or Kirk Humphreys?", "Kirk Humphreys")
CHOSEN = [
    "Kirk Humphreys",
    "The answer is Kirk Humphreys.",
    "Kirk Humphreys, born in 1948, is older",
]
NOT_CHOSEN = [
    "Tom Coburn is older than Kirk Humphreys.",
    "T. Coburn is older than Kirk Humphreys.",  # the other side in another spelling
    "Tom Coburn and Kirk Humphreys were both born in 1948.",
    "Who is older, Tom Coburn or Kirk Humphreys?",
    "It is not Kirk Humphreys",
    "You ask who is older, Coburn or Kirk Humphreys",
]


@pytest.mark.parametrize("prediction", CHOSEN + NOT_CHOSEN)
def test_the_answer_must_be_chosen_and_not_just_named(prediction: str) -> None:
    assert includes(prediction, OLDER)
    assert matches(prediction, OLDER) == (prediction in CHOSEN)


@pytest.mark.parametrize(
    ("asked", "answer", "prediction", "right"),
    [  # answers of the embedded model to HotpotQA, or after them, judged by hand
        ("Between Pinanga and Alopecurus which genus is more common?", "Alopecurus", "Pinanga and "
         "Alopecurus are two distinct genera", False),
        ("Which of the cities of Dujiangyan City and Ezhou has the larger population?", "Ezhou",
         "Dujiangyan City and Ezhou have the largest populations", False),
        ("In between The Bears and I and Oceans which was released on July 31, 1974?",
         "The Bears and I", "In between the Bears and I and Oceans was released on July 31", False),
        ("Who is a guitarist, Saffron or Myles Kennedy?", "Myles Kennedy",
         "Saffron is a guitarist, Myles Kennedy.", False),
        ("Which was founded earlier, Pennsylvania State University or Queen's University?",
         "Queen's University", "The University of Pennsylvania was founded earlier than Queen's "
         "University, which is", False),
        ("The Havanese and the Black Mouth Cur are both which kind of animal?", "Dogs",
         "The Havanese and the Black Mouth Cur are both dogs.", True),
        ("How many more boxes did she buy?", "4",
         "It is 3 + 5 = 8 boxes. Last week, she bought 4 boxes. So, 8 boxes were sold.", False),
        ("How many more boxes did she buy?", "4", "3 + 5 = 8 boxes, and 8 - 4 = 4 more.", True),
        ("How many more did she buy?", "4", "The answer is 4: 8 were bought, 4 before, of 8", True),
        ("How many legs has it?", "4", "It has 4 legs and 2 wings", True),
        ("Which has a greater area, Liuzhou or Muling?", "Liuzhou",
         "Liuzhou has a greater area, not Muling.", True),
        ("Which dog originated in Galicia, the Bullenbeisser or Can de Palleiro?",
         "Can de Palleiro", "The answer to this question is: Can de Palleiro.", True),
        ("Which case was decided first, Selle v. Gibb or Reynolds v. Sims?", "1964",
         "Selle v. Gibb was in 1984, Reynolds v. Sims in 1964", True),
        ("How many are there, more than in Chad?", "more than 40", "There are more than 40", True),
        ("What is the capital?", "Paris", "It is none other than Paris", True),
        ("Is Paris in France or Paris in Texas older?", "Paris in France", "Paris in France", True),
    ],
)  # fmt: skip
def test_real_answers(asked: str, answer: str, prediction: str, right: bool) -> None:
    assert matches(prediction, Question(asked, answer)) == right


@pytest.mark.parametrize(
    ("asked", "sides"),
    [
        ("Who was born first, Al-Karaji or Masatoshi Gunduz Ikeda?",
         ("Al-Karaji", "Masatoshi Gunduz Ikeda")),
        ("Which is farther north, Wynantskill, New York or Hannaford Brothers Company?",
         ("Wynantskill, New York", "Hannaford Brothers Company")),
        ("Which band is from England, Fireflight or Dirty Pretty Things?",
         ("Fireflight", "Dirty Pretty Things")),
        ("Which of these is from Chicago: Kill Hannah or Louis XIV?", ("Kill Hannah", "Louis XIV")),
        ("Between Greyia and Calibanus, which genus contains more?", ("Greyia", "Calibanus")),
        ("Which is larger: the moon or the sun?", ("the moon", "the sun")),
        ("Who wrote Emma?", None),
        ("When did Simon and Garfunkel part?", None),
    ],
)  # fmt: skip
def test_the_sides_of_a_question(asked: str, sides: tuple[str, str] | None) -> None:
    assert sides_of(asked) == sides


CHOICE = Question("Who sits first?", "Q", options=("P", "Q and R", "Q", "none of them"))
RIGHT = [
    "C", "c", "(C)", "C.", "C)", "C: Q", "The answer is (C).", "It is Q.", "C) Q", "Answer: C",
    "Option C is correct", "C. Because he is the last of all to sit",
    "I think (C) is right, since they said so",
]  # fmt: skip
# The text of the right option decides, whatever letter stands beside it.
RIGHT += ["(A) Q", "A. Q", "(D) It must be Q"]
WRONG = [
    "B", "(A) and not Q", "Q and R", "Certainly not", "Quite so", "", "E", "(Z)",
    "P, or Q",  # two options by text
    "Q and R, or Q",
    "(C) or (D)",  # and two by letter
    "(C) P",
    "The answer is a chair",  # no letter
    "C's turn",
    "C) All of them sit in the first row",  # another text than that of its option
]  # fmt: skip


@pytest.mark.parametrize("prediction", RIGHT + WRONG)
def test_an_option_is_named_by_its_letter_or_its_text(prediction: str) -> None:
    assert matches(prediction, CHOICE) == (prediction in RIGHT)


def test_the_first_check_of_options_is_whether_the_right_one_is_there() -> None:
    for prediction in ("(C)", "P, or Q", "(C) P", "(A) and not Q"):
        assert includes(prediction, CHOICE)
    for prediction in ("(A)", "P", "none of them", ""):
        assert not includes(prediction, CHOICE)


class Scripted:
    """A judge that says yes, and keeps what it was asked."""

    name = "scripted"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def complete(
        self, conversations: Sequence[Conversation], progress: object = None
    ) -> list[str | None]:
        self.asked += [one.user for one in conversations]
        return ["yes" for _ in conversations]


def test_a_double_check_asks_about_what_includes_the_answer_alone() -> None:
    asked, said = [question("Paris"), question("Rome"), OLDER], ["Lyon", "Rome!", NOT_CHOSEN[0]]
    alone, second, done = Scripted(), Scripted(), []
    assert judge(asked, said, alone) == [True, True, True]
    assert judge(asked, said, second, done.append, double_check=True) == [False, True, True]
    assert (len(alone.asked), second.asked, done) == (3, alone.asked[1:], [1])
    assert judge(asked, said, double_check=True) == [False, True, False]  # without a judge: matches
    assert judge(asked[:1], said[:1], second, double_check=True) == [False]
    assert len(second.asked) == 2


def test_a_judge_sees_the_options_and_the_letter_of_the_right_one() -> None:
    examiner = Scripted()
    judge([CHOICE], ["(C)"], examiner)
    assert examiner.asked == [
        "Question: Who sits first?\n(A) P\n(B) Q and R\n(C) Q\n(D) none of them\n"
        "Prediction: (C)\nAnswer: (C) Q"
    ]


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
