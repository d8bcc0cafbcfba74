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
    ("own", "served"), [("nasa", ["A", "B"]), ("A", ["nasa", "B"]), ("B", ["A", "nasa"])]
)
def test_two_instructions_that_are_not_the_settings_own(
    llama: Tiny, own: str, served: list[str]
) -> None:
    given = material(*llama, instruction=own)
    for rival, name in zip((WORDING_A, WORDING_B), served, strict=True):
        fitted = rival.fit(given)
        assert fitted.changes == fitted.chosen == {"instruction": name}
        settings = given.settings.replace(fitted.changes)
        builder = PromptBuilder(given.session.tokenizer, settings.vocabulary, settings.instruction)
        asked = INSTRUCTIONS[name].format(positive="Yes", negative="No")
        assert asked in builder.binary(given.development[0]).text


def test_the_examples_of_the_material_stand_before_the_question(llama: Tiny) -> None:
    given = material(*llama)
    fitted = SHOTS.fit(given)
    assert list(fitted.shots) == list(given.shots)
    question = given.development[0]
    plain, shown = (given.builder(shots).binary(question) for shots in ((), fitted.shots))
    places = [shown.text.index(one.question) for one in (*given.shots, question)]
    assert places == sorted(places)
    more = len(shown.token_ids) - len(plain.token_ids)
    assert fitted.chosen == {"examples": len(given.shots), "more tokens": more}
    without, by = (
        run_evaluation(*llama, given.development, given.settings, shots).scores.p_positive
        for shots in ((), fitted.shots)
    )
    assert not without.equal(by)
