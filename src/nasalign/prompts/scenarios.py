"""The scenarios in which a question is asked, after a study of when negative bias appears.

``plain`` is Prompt I. Two scenarios change the example: ``context`` gives it its evidence,
``negated`` asks whether the answer is not so. Two change the prompt: ``unsure`` allows a third
answer, ``cot`` asks for a chain of thought. The study is arXiv 2511.10881; the wordings are this
project's own, in the form of Prompt I.
"""

from collections.abc import Sequence
from dataclasses import replace

from nasalign.config import Scenario
from nasalign.data.records import BinaryExample, Question, Record
from nasalign.errors import DataError
from nasalign.prompts.wordings import UNSURE, Vocabulary

_REASONING = (
    "Reason first, and end with a line that says Answer: {positive} or Answer: {negative}. "
    "Let's think step by step."
)


def words_in(scenario: Scenario, words: Vocabulary) -> Vocabulary:
    """Return the words that an answer may be: in ``unsure`` there always is a third one."""
    unsure = scenario == "unsure" and not words.unsures
    return replace(words, unsures=(UNSURE,)) if unsure else words


def closing_in(scenario: Scenario, positive: str, negative: str) -> str:
    """Return the text that follows the question."""
    if scenario != "cot":
        return "Answer:"
    return _REASONING.format(positive=positive, negative=negative)


def evidence_of(record: Record) -> str | None:
    """Return the text that holds the answer: the supporting part of the context, or all of it."""
    return (record.brief if isinstance(record, Question) else None) or record.context


def in_scenario(
    examples: Sequence[BinaryExample],
    scenario: Scenario,
    evidence: Sequence[str | None] | None = None,
    name: str = "the data",
) -> list[BinaryExample]:
    """Return examples as a scenario asks them; those that already are so stay unchanged.

    ``evidence`` has the contexts for examples without one. Raise DataError if the data, called
    ``name``, does not allow the scenario.
    """
    if scenario == "negated":
        return [_negated(example, name) for example in examples]
    if scenario != "context":
        return list(examples)
    given = [
        replace(example, context=example.context or text)
        for example, text in zip(examples, evidence or [None] * len(examples), strict=True)
    ]
    lacking = sum(example.context is None for example in given)
    if lacking:
        raise DataError(
            f"{lacking} of the {len(given)} examples of {name} have no context, which the scenario "
            "context gives; take data that brings one, such as strategyqa, musique or your own "
            "file with the column context."
        )
    return given


def _negated(example: BinaryExample, name: str) -> BinaryExample:
    if example.answer is None:
        raise DataError(
            f"{name} asks yes/no questions, such as {example.question!r}, which no rule negates; "
            "the scenario negated is for short answers, such as those of facts or musique."
        )
    if example.negated:
        return example
    label = None if example.label is None else not example.label
    return replace(example, label=label, negated=True)
