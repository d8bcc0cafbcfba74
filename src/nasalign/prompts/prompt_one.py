"""Prompt I of the paper as a text, and where it names the answer words."""

from collections.abc import Iterable

from nasalign.config import Scenario
from nasalign.data.records import BinaryExample
from nasalign.prompts.scenarios import closing_in
from nasalign.prompts.user_template import Filled
from nasalign.prompts.wordings import INSTRUCTIONS, VOCABULARIES, Vocabulary


def prompt_1(example: BinaryExample) -> str:
    """Return Prompt I as a message, for a model whose tokenizer is not at hand."""
    return fill_prompt_1(example, VOCABULARIES["yes/no"]).messages["user"]


def fill_prompt_1(
    example: BinaryExample,
    words: Vocabulary,
    instruction: str = "nasa",
    shots: Iterable[str] = (),
    scenario: Scenario = "plain",
) -> Filled:
    """Return Prompt I with its answer words located.

    Args:
        example: what is asked.
        words: the answer words.
        instruction: a key of ``INSTRUCTIONS``.
        shots: examples with their answers, each a line, that stand before the question.
        scenario: what the wording asks for.
    """
    template = INSTRUCTIONS[instruction]
    if words.unsures:
        template = f"{template.removesuffix('.')}, or {words.unsures[0]}."
    start = template.format(positive=words.positive, negative=words.negative)
    content = f"{start} {''.join(shots)}{question_text(example, words, scenario)}"
    # The words are located in the instruction: the question may hold a "No" of its own.
    positive = template.index("{positive}")
    negative = template.format(positive=words.positive, negative="\0").index("\0")
    return Filled(
        {"user": content},
        [("user", 0, len(content))],
        (("user", positive, words.positive), ("user", negative, words.negative)),
        ("user", len(start)),
    )


def question_text(example: BinaryExample, words: Vocabulary, scenario: Scenario = "plain") -> str:
    """Return what follows the instruction of a prompt."""
    context = f"Context: {example.context} " if example.context else ""
    is_it = "Is the answer not" if example.negated else "Is the answer"
    verify = f" {is_it} {example.answer}?" if example.answer is not None else ""
    closing = closing_in(scenario, words.positive, words.negative)
    return f"{context}Question: {example.question}{verify} {closing}"
