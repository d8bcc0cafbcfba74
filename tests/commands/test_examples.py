"""Records become examples with the context, the sides and the writer that the settings name."""

from dataclasses import replace
from pathlib import Path

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import upstream
from nasalign.config import Settings
from nasalign.data.binary import Binary
from nasalign.data.records import BinaryExample, Question
from nasalign.data.sources import load_data
from nasalign.data.splits import Splits
from nasalign.errors import DataError
from nasalign.evaluation.examples import as_scenario, few_shots, make_examples, without_evidence
from nasalign.session import Session

Llama = tuple[PreTrainedModel, PreTrainedTokenizerFast]
CHOICE = Question("Who?", "Ann", context="Ann and Bob sit.", options=("Ann", "Bob"))


@pytest.fixture
def questions(tmp_path: Path) -> list[Question]:
    return load_data("musique", [upstream.write(tmp_path, "musique")]).questions


def session(llama: Llama, **changes: object) -> Session:
    return Session(*llama, Settings().replace({"sides": "both"} | changes))


def test_evidence_is_not_shown_to_what_is_probed(questions: list[Question]) -> None:
    probed = without_evidence([*questions, CHOICE])
    assert [question.context for question in probed] == [None, None, "Ann and Bob sit."]


def test_all_of_the_context_is_given_if_it_fits(llama: Llama, questions: list[Question]) -> None:
    model, _ = llama
    whole = session(llama)
    _, binary = make_examples(whole, "musique", questions, questions)
    assert {example.context for example in binary.examples} == {questions[0].context}
    assert whole.run.facts["examples"]["musique"]["context"] == "all"
    model.config.max_position_embeddings = 90
    brief = session(llama, answer_tokens=4)
    records, binary = make_examples(brief, "musique", questions, questions)
    assert {example.context for example in binary.examples} == {questions[0].brief}
    assert {record.context for record in records} == {questions[0].brief}
    assert brief.run.facts["examples"]["musique"]["context"] == "supporting"


def test_the_model_itself_may_write_wrong_answers(llama: Llama) -> None:
    asked = [Question(f"What is word{n}?", f"thing {n}", id=f"{n}") for n in range(6)]
    own = session(llama, generator="self")
    _, binary = make_examples(own, "mine", asked, asked)
    assert own.run.facts["examples"]["mine"]["generator"] == "self"
    wrong = [one.answer for one in binary.examples if not one.label]
    assert len(wrong) + sum(binary.dropped.counts.values()) == 6
    rules = make_examples(session(llama), "mine", asked, asked)[1]
    assert wrong != [one.answer for one in rules.examples if not one.label]


def test_nothing_left_is_an_error(llama: Llama) -> None:
    with pytest.raises(DataError, match="mine leaves no test question"):
        make_examples(session(llama), "mine", [Question("Who?", "Ann")], [])


def test_shown_examples_are_of_the_probed_questions_right_and_wrong_in_turn(llama: Llama) -> None:
    data = load_data("facts")
    splits = Splits.of(data, data)
    shown = few_shots(session(llama, shots=4), splits)
    assert [example.label for example in shown] == [True, False, True, False]
    probed = {question.question: question for question in splits.probing}
    for example in shown:
        assert (example.answer == probed[example.question].answer) == example.label
    assert not {example.question for example in shown} & {one.question for one in splits.test}
    assert few_shots(session(llama, shots=4), splits) == shown
    assert few_shots(session(llama, shots=4, seed=1), splits) != shown


def test_a_rewritten_question_gets_its_passage_once_in_the_scenario_context(llama: Llama) -> None:
    rewritten = Binary([BinaryExample("Ann and Bob sit. Is it Ann?", True)], [0])
    asked = session(llama, scenario="context")
    binary = replace(rewritten, tasks=("rewritten questions",))
    assert as_scenario(asked, "ar-lsat", [CHOICE], binary) == binary.examples
    given = replace(rewritten, tasks=("yes/no questions",))
    assert as_scenario(asked, "ar-lsat", [CHOICE], given)[0].context == CHOICE.context
