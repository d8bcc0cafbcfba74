"""Each scenario is worded as it should be, and in none is another Yes or No scored."""

from itertools import product

import pytest
from transformers import PreTrainedTokenizerFast

import tiny
from nasalign.config import Scenario
from nasalign.data.records import BinaryExample, Question
from nasalign.errors import DataError, PromptError
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder
from nasalign.prompts.scenarios import UNSURE, evidence_of, in_scenario

SETUPS = list(product(("bytelevel", "metaspace"), (True, False), (True, False)))
SCENARIOS: tuple[Scenario, ...] = ("plain", "context", "unsure", "cot", "negated")
EXAMPLE = BinaryExample("What is the capital of France?", True, "Paris")
TRAP = BinaryExample(
    "No doubt: Yes or No? Answer: No", False, "No, I don't know", 'He said "Yes" and "No".'
)
PLAIN = "You are given a question and you MUST answer Yes or No."
THIRD = "You are given a question and you MUST answer Yes or No, or I don't know."
ASKED = "Question: What is the capital of France? Is the answer Paris?"
REASON = (
    "Reason first, and end with a line that says Answer: Yes or Answer: No. Let's think step by "
    "step."
)


def build(
    scenario: Scenario, style: str = "bytelevel", chat: bool = False, bos: bool = True
) -> PromptBuilder:
    return PromptBuilder(tiny.build_tokenizer(style=style, bos=bos), chat=chat, scenario=scenario)


def prompt_in(builder: PromptBuilder, example: BinaryExample) -> BinaryPrompt:
    return builder.binary(in_scenario([example], builder.scenario, ["There."])[0])


@pytest.mark.parametrize(
    ("scenario", "text"),
    [
        ("plain", f"{PLAIN} {ASKED} Answer:"),
        ("context", f"{PLAIN} Context: There. {ASKED} Answer:"),
        ("unsure", f"{THIRD} {ASKED} Answer:"),
        ("cot", f"{PLAIN} {ASKED} {REASON}"),
        ("negated", f"{PLAIN} {ASKED.replace('answer', 'answer not')} Answer:"),
    ],
)
def test_prompts_are_worded_in_the_form_of_prompt_1(scenario: Scenario, text: str) -> None:
    assert prompt_in(build(scenario), EXAMPLE).text == text


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize(("style", "chat", "bos"), SETUPS)
def test_the_scored_words_are_those_of_the_instruction(
    style: str, chat: bool, bos: bool, scenario: Scenario
) -> None:
    builder = build(scenario, style, chat, bos)
    instruction = THIRD if scenario == "unsure" else PLAIN
    head = f"system\n{tiny.SYSTEM_PROMPT}\nuser\n" if chat else ""

    def decode(ids: tuple[int, ...]) -> str:
        return str(builder.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    for example in (EXAMPLE, TRAP):
        prompt = prompt_in(builder, example)
        ids = prompt.token_ids
        words = (("Yes", prompt.positive_position), ("No", prompt.negative_position))
        for word, place in words:
            assert decode(ids[place : place + 1]) == word
            assert decode(ids[:place]) == (head + instruction.partition(word)[0]).strip()
        assert decode(ids[: prompt.first_row]) == head + instruction
        assert decode(ids[prompt.first_row :]).startswith(("Question:", "Context:"))


@pytest.mark.parametrize("instruction", ["nasa", "A", "B"])
@pytest.mark.parametrize("vocabulary", ["true/false", "correct/wrong"])
def test_every_instruction_can_allow_a_third_answer(instruction: str, vocabulary: str) -> None:
    tokenizer = tiny.build_tokenizer()
    plain, unsure = (
        PromptBuilder(tokenizer, vocabulary, instruction, False, scenario=scenario).binary(TRAP)
        for scenario in ("plain", "unsure")
    )
    sentence, _, rest = plain.text.partition(".")
    assert unsure.text == f"{sentence}, or I don't know.{rest}"
    assert unsure.positive_position == plain.positive_position
    assert unsure.negative_position == plain.negative_position
    assert unsure.first_row > plain.first_row


@pytest.mark.parametrize(("style", "chat", "bos"), SETUPS)
def test_the_third_answer_has_first_tokens_of_its_own(style: str, chat: bool, bos: bool) -> None:
    builder = build("unsure", style, chat, bos)
    answers = prompt_in(builder, TRAP).answers
    texts = [builder.tokenizer.decode([token]).strip() for token in answers.unsure]
    assert texts
    assert all(text and UNSURE.casefold().startswith(text.casefold()) for text in texts)
    assert not set(answers.unsure) & {*answers.positive, *answers.negative}
    plain = prompt_in(build("plain", style, chat, bos), TRAP).answers
    assert plain.unsure == ()
    assert (answers.positive, answers.negative) == (plain.positive, plain.negative)


def test_a_negated_question_has_the_other_label() -> None:
    questions = [EXAMPLE, BinaryExample("Who?", False, "Ann", "Here.", "7")]
    negated = in_scenario(questions, "negated", [None, None], "mine")
    assert [one.label for one in negated] == [False, True]
    assert [(one.question, one.answer, one.context, one.id) for one in negated] == [
        (one.question, one.answer, one.context, one.id) for one in questions
    ]
    assert in_scenario(negated, "negated") == negated
    shots = PromptBuilder(tiny.build_tokenizer(), chat=False, shots=negated[1:])
    assert "Question: Who? Is the answer not Ann? Answer: Yes\n" in shots.binary(EXAMPLE).text


def test_a_yes_no_question_is_not_negated() -> None:
    asked = [EXAMPLE, BinaryExample("Is ice cold?", True)]
    with pytest.raises(DataError, match=r"mine asks yes/no questions, such as 'Is ice cold\?'"):
        in_scenario(asked, "negated", [None, None], "mine")


def test_a_context_is_given_where_there_is_none_yet() -> None:
    asked = [EXAMPLE, BinaryExample("Is ice cold?", True, context="Ice is frozen.")]
    given = in_scenario(asked, "context", ["Paris.", "Other."], "mine")
    assert [one.context for one in given] == ["Paris.", "Ice is frozen."]
    assert in_scenario(given, "context") == given
    with pytest.raises(DataError, match="1 of the 2 examples of mine have no context"):
        in_scenario(asked, "context", [None, "Other."], "mine")


def test_evidence_is_the_supporting_part_or_all_there_is() -> None:
    long = Question("Who?", "Ann", context="Ann sits. Bob stands.", brief="Ann sits.")
    assert evidence_of(long) == "Ann sits."
    assert evidence_of(Question("Who?", "Ann", context="Ann sits.")) == "Ann sits."
    assert evidence_of(BinaryExample("Is it?", True, context="It is.")) == "It is."
    assert evidence_of(EXAMPLE) is None


@pytest.mark.parametrize("scenario", ["plain", "unsure", "cot"])
def test_other_scenarios_leave_the_examples(scenario: Scenario) -> None:
    assert in_scenario([EXAMPLE, TRAP], scenario, [None, None], "mine") == [EXAMPLE, TRAP]


def test_what_does_not_fit_is_named(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(PromptError, match="no scenario 'loud'; choose one of plain, context"):
        PromptBuilder(tokenizer, scenario="loud")  # type: ignore[arg-type]
    with pytest.raises(PromptError, match="cot takes no examples"):
        PromptBuilder(tokenizer, shots=[EXAMPLE], scenario="cot")
