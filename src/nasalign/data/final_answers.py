"""The final answer of a worked solution: after ``####``, in ``\\boxed{}``, or as a sentence."""

import re

from nasalign.data.reading import Drop

_BOX = re.compile(r"\\(?:boxed|fbox)\s*")


def after_hashes(solution: str) -> str:
    """Returns what follows the last ``####`` (GSM8K), to the end of its line.

    Raises:
        Drop: there is none.
    """
    _, mark, rest = solution.rpartition("####")
    answer = rest.strip().partition("\n")[0].strip()
    if not mark or not answer:
        raise Drop("no answer after ####")
    return answer


def after_sentence(solution: str) -> str:
    """Returns what follows the last ``The answer is:`` (MetaMathQA), without a full stop.

    Raises:
        Drop: there is none.
    """
    _, mark, rest = solution.rpartition("The answer is:")
    answer = rest.strip().partition("\n")[0].strip().removesuffix(".").rstrip()
    answer = answer.removeprefix("$").removesuffix("$").strip() if _in_dollars(answer) else answer
    if not mark or not answer:
        raise Drop("no answer after The answer is:")
    return answer


def in_box(solution: str) -> str:
    """Returns the content of the last ``\\boxed{}`` (MATH), however deep its braces are nested.

    Raises:
        Drop: there is none, or its braces are not closed.
    """
    boxes = list(_BOX.finditer(solution))
    if not boxes:
        raise Drop("no answer in \\boxed{}")
    rest = solution[boxes[-1].end() :]
    answer = _in_braces(rest) if rest.startswith("{") else rest[:1]  # \boxed 7
    if not answer.strip(" $"):
        raise Drop("no answer in \\boxed{}")
    return answer.strip()


def _in_braces(text: str) -> str:
    """The content of the braces that a text begins with; a brace behind a backslash is a sign."""
    depth = 0
    for place, sign in enumerate(text):
        if place and text[place - 1] == "\\":
            continue
        depth += (sign == "{") - (sign == "}")
        if depth == 0:
            return text[1:place]
    raise Drop("\\boxed{} is not closed")


def _in_dollars(answer: str) -> bool:
    """Says whether the answer stands in a formula's dollars, not in front of an amount."""
    return len(answer) > 2 and answer.startswith("$") and answer.endswith("$")
