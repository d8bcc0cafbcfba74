"""The final answer of a worked solution: after ``####``, in ``\\boxed{}``, or as a sentence.

All functions raise ``Drop`` where there is none.
"""

import re

from nasalign.data.reading import Drop

_BOX = re.compile(r"\\(?:boxed|fbox)\s*")


def after_hashes(solution: str) -> str:
    """Return what follows the last ``####`` (GSM8K), to the end of its line."""
    return _after("####", solution)


def after_sentence(solution: str) -> str:
    """Return what follows the last ``The answer is:`` (MetaMathQA), without a full stop."""
    answer = _after("The answer is:", solution).removesuffix(".").rstrip()
    # The dollars of a formula go; the one of an amount, "$5", stays.
    formula = len(answer) > 2 and answer.startswith("$") and answer.endswith("$")
    answer = answer.removeprefix("$").removesuffix("$").strip() if formula else answer
    if not answer:
        raise Drop("no answer after The answer is:")
    return answer


def in_box(solution: str) -> str:
    """Return the content of the last ``\\boxed{}`` (MATH), however deep its braces are nested."""
    rest = _BOX.split(solution)[-1] if _BOX.search(solution) else ""
    answer = _in_braces(rest) if rest.startswith("{") else rest[:1]  # \boxed 7
    if not answer.strip(" $"):
        raise Drop("no answer in \\boxed{}")
    return answer.strip()


def _after(mark: str, solution: str) -> str:
    _, found, rest = solution.rpartition(mark)
    answer = rest.strip().partition("\n")[0].strip()
    if not found or not answer:
        raise Drop(f"no answer after {mark}")
    return answer


def _in_braces(text: str) -> str:
    """The content of the braces that a text begins with; a brace after a backslash is a sign."""
    depth = 0
    for place, sign in enumerate(text):
        if place and text[place - 1] == "\\":
            continue
        depth += (sign == "{") - (sign == "}")
        if depth == 0:
            return text[1:place]
    raise Drop("\\boxed{} is not closed")
