"""On the real data sets: counts, labels, three rows of each, and no wrong answer that is right.

The rows are pinned by their SHA-256, since they are not ours to copy.
"""

import hashlib
import json
import re
from collections import Counter
from fractions import Fraction

import pytest

import slices
from nasalign.data.binary import to_binary
from nasalign.data.conversation import MAX_TOKENS
from nasalign.data.records import BinaryExample, Question
from nasalign.data.sources import load_data

pytestmark = slices.needed

COUNTS = {  # records, positives and negatives of sides="one"
    "hotpotqa": (4499, 1394, 1394),
    "strategyqa": (2061, 964, 1097),
    "musique": (135, 43, 43),
    "gsm8k": (886, 443, 443),
    "math": (3262, 1621, 1620),
    "ar-lsat": (1861, 931, 930),
}
ROWS = {  # first, middle and last
    "hotpotqa": ("6264791d2875e0da", "1edff8a27059f4a2", "97f5e2f15056cd5a"),
    "strategyqa": ("604b7cc033cc3a49", "df2ce70348612490", "bfaacb2e66f6a9a9"),
    "musique": ("f33b1ff6dce3495a", "5fc82d7d983fe963", "eff514c7346e093d"),
    "gsm8k": ("4c35c40cdd4ec03a", "b21d5bb8f807280b", "b8f4d2ab81e3542d"),
    "math": ("5eb35bed2d24ffac", "17e67518f19b9cb0", "ba81fa7ce8725a03"),
    "ar-lsat": ("eaa2b6f0bfdb694b", "d70d399a4fac5d8b", "dd6446ac2a9c014f"),
}


def digest(example: BinaryExample) -> str:
    values = [example.id, example.question, example.context, example.answer, example.label]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", COUNTS)
def test_counts_labels_and_three_rows(name: str) -> None:
    loaded = load_data(name, slices.files(name))
    examples = to_binary(loaded.records, 0, sides="one").examples
    labels = Counter(example.label for example in examples)
    assert (len(loaded.records), labels[True], labels[False]) == COUNTS[name]
    places = (0, len(examples) // 2, -1)
    found = tuple(digest(examples[place]) for place in places)
    assert found == ROWS[name], [examples[place] for place in places]


def test_a_generator_has_room_for_a_rewritten_question() -> None:
    """That of AR-LSAT holds the whole passage (Table 14); a word is mostly one token."""
    questions = load_data("ar-lsat", slices.files("ar-lsat")).questions
    texts = (f"{one.context} {one.question} {one.answer}" for one in questions)
    assert max(1.5 * len(text.split()) for text in texts) < MAX_TOKENS


def test_hotpotqa_leaves_out_what_is_yes_or_no() -> None:
    loaded = load_data("hotpotqa", slices.files("hotpotqa"))
    assert loaded.dropped.counts == {"its answer is a literal yes or no": 316}
    assert not {"yes", "no"} & {question.answer.lower() for question in loaded.questions}


def test_strategyqa_has_the_labels_of_its_file() -> None:
    (path,) = slices.files("strategyqa")
    rows = {row["qid"]: row for row in json.loads(path.read_text())}
    examples = to_binary(load_data("strategyqa", [path]).records, 0).examples
    assert len(examples) == len(rows) == 2061
    for example in examples:
        row = rows[example.id]
        assert (example.question, example.label) == (row["question"].strip(), row["answer"])
        assert example.answer is None
        assert example.context == " ".join(fact.strip() for fact in row["facts"] if fact.strip())


@pytest.mark.parametrize("seed", range(5))
def test_ar_lsat_is_balanced(seed: int) -> None:
    loaded = load_data("ar-lsat", slices.files("ar-lsat"))
    examples = to_binary(loaded.records, seed, sides="one").examples
    share = sum(example.label for example in examples) / len(examples)
    assert 0.45 <= share <= 0.55


def test_the_answers_of_gsm8k_are_those_of_another_reading() -> None:
    (path,) = slices.files("gsm8k")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    found = [question.answer for question in load_data("gsm8k", [path]).questions]
    assert found == [re.findall(r"#### (.+)", row["answer"])[-1].strip() for row in rows]


def plainly(answer: str) -> str:
    """Letters and digits alone: a coarser comparison than that of the code under test."""
    return "".join(sign for sign in answer.casefold() if sign.isalnum())


LEFT_OUT = {"hotpotqa": 0.4, "musique": 0.4}  # share for which no wrong answer has the same type


@pytest.mark.parametrize("name", ["hotpotqa", "musique", "gsm8k", "ar-lsat"])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_wrong_answer_is_right(name: str, seed: int) -> None:
    records = load_data(name, slices.files(name)).records
    binary = to_binary(records, seed)
    left_out = sum(binary.dropped.counts.values()) / len(records)
    assert left_out < LEFT_OUT.get(name, 1e-9)
    for origin, wrong in zip(binary.origins[1::2], binary.examples[1::2], strict=True):
        question = records[origin]
        assert isinstance(question, Question)
        assert not wrong.label
        answer = str(wrong.answer)
        for right in (question.answer, *question.aliases):
            assert plainly(answer) != plainly(right), question
        if name == "gsm8k":
            numbers = [Fraction(text.replace(",", "")) for text in (answer, question.answer)]
            assert numbers[0] != numbers[1]
            assert answer.count(",") == question.answer.count(",") or numbers[0] < 1000


MISREAD = {  # by math-verify: a factorial that its floating point takes for zero, and \\frac \\pi4
    "\\frac{1}{2004!}",
    "\\frac \\pi4 + 2 - \\sqrt2",
}


@pytest.mark.slow
def test_no_wrong_answer_of_math_has_the_right_value() -> None:
    """By math-verify, which has its own grammar of LaTeX."""
    from math_verify import parse, verify

    records = load_data("math", slices.files("math")).records
    binary = to_binary(records, 0)
    assert sum(binary.dropped.counts.values()) < 0.01 * len(records)
    for origin, wrong in zip(binary.origins[1::2], binary.examples[1::2], strict=True):
        right = str(records[origin].answer)
        assert plainly(str(wrong.answer)) != plainly(right) or "-" in right + str(wrong.answer)
        values = [parse(f"${answer}$") for answer in (right, str(wrong.answer))]
        assert all(values)
        assert right in MISREAD or not verify(*values), (right, wrong.answer)
