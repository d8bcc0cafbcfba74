"""The final answer of a worked solution is found however it is written."""

from collections.abc import Callable

import pytest

from nasalign.data.final_answers import after_hashes, after_sentence, in_box
from nasalign.data.reading import Drop


@pytest.mark.parametrize(
    ("find", "solution", "answer"),
    [
        (after_hashes, "a <<1+1=2>>2\n#### 2", "2"),
        (after_hashes, "#### 3\n#### 1,234  \n", "1,234"),
        (after_hashes, "#### -5\nand more", "-5"),
        (after_sentence, "#### 18\nThe answer is: 18", "18"),
        (after_sentence, "The answer is: 3. No. The answer is: 4.5.", "4.5"),
        (after_sentence, "The answer is: $\\frac{1}{2}$.\n", "\\frac{1}{2}"),
        (after_sentence, "The answer is: $5", "$5"),
        (in_box, "$\\boxed{2}$", "2"),
        (in_box, "\\boxed{1}, and so \\boxed{ \\frac{1}{\\sqrt{2}} }.", "\\frac{1}{\\sqrt{2}}"),
        (in_box, "\\fbox{7}", "7"),
        (in_box, "\\boxed 7 metres", "7"),
        (in_box, "\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        (in_box, "\\boxed{\\text{(C)}} and {more}", "\\text{(C)}"),
        (in_box, "\\boxed{\\left\\{x \\mid x>0\\right\\}}", "\\left\\{x \\mid x>0\\right\\}"),
    ],
)
def test_the_last_answer_is_found(find: Callable[[str], str], solution: str, answer: str) -> None:
    assert find(solution) == answer


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
