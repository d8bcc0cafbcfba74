"""The final answer of a worked solution is found however it is written."""

from collections.abc import Callable

import pytest

from nasalign.data.final_answers import after_hashes, after_sentence, in_box
from nasalign.data.reading import Drop


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("a <<1+1=2>>2\n#### 2", "2"),
        ("#### 3\n#### 1,234  \n", "1,234"),
        ("#### -5\nand more", "-5"),
    ],
)
def test_after_hashes(solution: str, answer: str) -> None:
    assert after_hashes(solution) == answer


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("#### 18\nThe answer is: 18", "18"),
        ("The answer is: 3. No. The answer is: 4.5.", "4.5"),
        ("The answer is: $\\frac{1}{2}$.\n", "\\frac{1}{2}"),
        ("The answer is: $5", "$5"),
    ],
)
def test_after_sentence(solution: str, answer: str) -> None:
    assert after_sentence(solution) == answer


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("$\\boxed{2}$", "2"),
        ("\\boxed{1}, and so \\boxed{ \\frac{1}{\\sqrt{2}} }.", "\\frac{1}{\\sqrt{2}}"),
        ("\\fbox{7}", "7"),
        ("\\boxed 7 metres", "7"),
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("\\boxed{\\text{(C)}} and {more}", "\\text{(C)}"),
        ("\\boxed{\\left\\{x \\mid x>0\\right\\}}", "\\left\\{x \\mid x>0\\right\\}"),
    ],
)
def test_in_box(solution: str, answer: str) -> None:
    assert in_box(solution) == answer


@pytest.mark.parametrize(
    ("find", "solution", "reason"),
    [
        (after_hashes, "It is 3.", "no answer after ####"),
        (after_hashes, "It is 3.\n####  \n", "no answer after ####"),
        (after_sentence, "It is 3.", "no answer after The answer is:"),
        (in_box, "It is 3.", "no answer in"),
        (in_box, "\\boxed{}", "no answer in"),
        (in_box, "\\boxed{\\frac{1}{2}", "is not closed"),
    ],
)
def test_without_an_answer_it_is_dropped(
    find: Callable[[str], str], solution: str, reason: str
) -> None:
    with pytest.raises(Drop, match=reason):
        find(solution)
