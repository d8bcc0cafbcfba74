"""Tables 16 to 18 and Figures 2 and 5, on answers that are written down by hand."""

import json
import math
from dataclasses import asdict
from typing import Any, Literal

import pytest

from nasalign.evaluation.responses import Cells, composition, confidence_histogram, shift_ratios

Z = 1.959963984540054  # 97.5 % of the normal distribution


def row(
    number: int,
    verdict: str,
    label: bool = True,
    knowledge: str = "Det-T",
    confident: bool = True,
    p: float = 0.5,
) -> dict[str, Any]:
    """A marked row; ``p`` is the probability of the word that was given."""
    said, other = ("p_yes", "p_no") if verdict == "positive" else ("p_no", "p_yes")
    return {
        "question": f"Question {number}?",
        "answer": "Paris",
        "label": label,
        "verdict": verdict,
        said: p,
        other: 0.001,
        "knowledge": knowledge,
        "confident": confident,
    }


def wilson(count: int, total: int) -> tuple[float, float]:
    share = count / total
    centre = (share + Z**2 / (2 * total)) / (1 + Z**2 / total)
    root = math.sqrt(share * (1 - share) / total + Z**2 / (4 * total**2))
    reach = Z * root / (1 + Z**2 / total)
    return centre - reach, centre + reach


def table(cells: Cells) -> dict[tuple[str, str], tuple[int, int]]:
    return {(cell.response, cell.confidence): (cell.count, cell.total) for cell in cells.cells}


DENIED = [  # all are false negatives
    *[row(number, "negative", knowledge="Det-T") for number in range(4)],
    *[row(number, "negative", knowledge="Det-T", confident=False) for number in range(4, 6)],
    *[row(number, "negative", knowledge="Non-Det", confident=False) for number in range(6, 9)],
    row(9, "negative", knowledge="Det-F"),
    *[row(number, "negative", knowledge="unclear") for number in range(10, 12)],
]
REFUSED = [  # true negatives
    *[row(number, "negative", label=False, knowledge="Det-F") for number in range(20, 25)],
    row(25, "negative", label=False, knowledge="Det-T"),
]
OTHERS = [row(30, "positive"), row(31, "positive", label=False), row(32, "invalid")]
ROWS = DENIED + REFUSED + OTHERS


def after(*affirmed: int) -> list[dict[str, Any]]:
    """What the aligned model says: Yes to some of the questions, and else as before."""
    names = {f"Question {number}?" for number in affirmed}
    return [one | ({"verdict": "positive"} if one["question"] in names else {}) for one in ROWS]


def test_the_composition_is_that_of_the_false_negatives() -> None:
    found = composition(ROWS)
    assert table(found) == {
        ("Det-T", "High"): (4, 10),
        ("Det-T", "Low"): (2, 10),
        ("Det-F", "High"): (1, 10),
        ("Det-F", "Low"): (0, 10),
        ("Non-Det", "High"): (0, 10),
        ("Non-Det", "Low"): (3, 10),
    }
    assert found.unclear == 2
    assert sum(cell.share or 0 for cell in found.cells) == pytest.approx(1)
    assert found.cells[0].interval == pytest.approx(wilson(4, 10))
    json.dumps(asdict(found))


def test_without_a_false_negative_there_is_no_share() -> None:
    found = composition(REFUSED + OTHERS)
    assert {cell.share for cell in found.cells} == {None}
    assert {cell.interval for cell in found.cells} == {None}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("FN", {("Det-T", "High"): (3, 4), ("Non-Det", "Low"): (1, 3)}),
        ("TN", {("Det-F", "High"): (2, 5), ("Det-T", "High"): (0, 1)}),
    ],
)
def test_the_shift_is_of_each_cell(
    kind: Literal["FN", "TN"], expected: dict[tuple[str, str], tuple[int, int]]
) -> None:
    found = shift_ratios(ROWS, after(0, 1, 2, 8, 10, 21, 23, 32), kind)
    counts = table(found)
    assert {name: counts[name] for name in expected} == expected
    for cell in found.cells:
        if cell.total:
            assert cell.share == cell.count / cell.total
            assert cell.interval == pytest.approx(wilson(cell.count, cell.total))
        else:
            assert (cell.share, cell.interval) == (None, None)
    assert found.unclear == (2 if kind == "FN" else 0)


def test_an_answer_that_became_invalid_has_not_shifted() -> None:
    invalid = [one | {"verdict": "invalid"} for one in ROWS]
    assert {cell.count for cell in shift_ratios(ROWS, invalid, "FN").cells} == {0}


def test_rows_of_other_examples_or_without_marks_are_refused() -> None:
    with pytest.raises(ValueError, match="not of the same examples"):
        shift_ratios(ROWS, list(reversed(after(0))), "FN")
    with pytest.raises(ValueError, match="not of the same examples"):
        shift_ratios(ROWS, after(0)[:-1], "FN")
    bare = {key: value for key, value in DENIED[0].items() if key != "knowledge"}
    with pytest.raises(ValueError, match=r"'Question 0\?' does not say"):
        composition([bare])


def test_answers_are_counted_by_how_sure_they_are() -> None:
    rows = [
        row(0, "positive", True, p=0.95),
        row(1, "positive", True, p=0.9),  # at most the upper end of its bin
        row(2, "positive", False, p=0.31),
        row(3, "negative", True, p=0.7),
        row(4, "negative", True, p=1.0000002),  # a sum of float32
        row(5, "negative", False, p=0.0),
        row(6, "invalid"),
    ]
    found = confidence_histogram(rows)
    assert found.counts == {
        "TP": [0, 0, 0, 0, 0, 0, 0, 0, 1, 1],
        "FP": [0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        "TN": [1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        "FN": [0, 0, 0, 0, 0, 0, 1, 0, 0, 1],
    }
    assert found.invalid == 1
    assert confidence_histogram(rows, bins=2).counts["TP"] == [0, 2]
    assert found.edges == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]
    json.dumps(asdict(found))
