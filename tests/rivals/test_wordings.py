"""Other instructions, and examples shown."""

from __future__ import annotations

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from nasalign.evaluation.evaluation import run_evaluation
from nasalign.prompts.builder import PromptBuilder
from nasalign.prompts.wordings import INSTRUCTIONS
from nasalign.rivals.instructions import SHOTS, WORDING_A, WORDING_B
from rivals.material import material

Tiny = tuple[PreTrainedModel, PreTrainedTokenizerFast]


@pytest.mark.parametrize(
    ("own", "served"),
    [("nasa", ["A", "B"]), ("A", ["nasa", "B"]), ("B", ["A", "nasa"])],
)
def test_two_instructions_that_are_not_the_settings_own(
    llama: Tiny, own: str, served: list[str]
) -> None:
    fitted = [rival.fit(material(*llama, instruction=own)) for rival in (WORDING_A, WORDING_B)]
    assert [one.changes["instruction"] for one in fitted] == served
    assert [one.chosen["instruction"] for one in fitted] == served


def test_the_change_is_one_that_settings_take(llama: Tiny) -> None:
    given = material(*llama)
    settings = given.settings.replace(WORDING_B.fit(given).changes)
    builder = PromptBuilder(given.tokenizer, settings.vocabulary, settings.instruction)
    asked = INSTRUCTIONS["B"].format(positive="Yes", negative="No")
    assert asked in builder.binary(given.development[0]).text


def test_the_examples_are_those_of_the_material_and_stand_before_the_question(llama: Tiny) -> None:
    given = material(*llama)
    fitted = SHOTS.fit(given)
    assert list(fitted.shots) == list(given.shots)
    text = given.builder(fitted.shots).binary(given.development[0]).text
    places = [text.index(shot.question) for shot in given.shots]
    assert places == sorted(places)
    assert places[-1] < text.index(given.development[0].question)


def test_how_much_longer_a_prompt_is(llama: Tiny) -> None:
    given = material(*llama)
    lengths = [
        len(given.builder(shots).binary(given.development[0]).token_ids)
        for shots in ((), given.shots)
    ]
    assert SHOTS.fit(given).chosen == {
        "examples": len(given.shots),
        "more tokens": lengths[1] - lengths[0],
    }


def test_what_is_served_can_be_evaluated(llama: Tiny) -> None:
    given = material(*llama)
    fitted = SHOTS.fit(given)
    plain, shown = (
        run_evaluation(*llama, given.development, given.settings, shots).scores.p_positive
        for shots in ((), fitted.shots)
    )
    assert not plain.equal(shown)
