"""Records become examples with the context, the sides and the writer that the settings name."""

from dataclasses import replace
from pathlib import Path

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import upstream
from nasalign.config import Settings
from nasalign.data.binary import Binary
from nasalign.data.records import BinaryExample, Question, split_of
from nasalign.data.sources import SOURCES, Loaded, load_data
from nasalign.data.splits import Splits
from nasalign.errors import DataError
from nasalign.evaluation.examples import as_scenario, make_examples, without_evidence
from nasalign.evaluation.shots import few_shots
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


def test_shown_examples_are_held_out_of_the_data_and_half_of_them_right(llama: Llama) -> None:
    data = load_data("facts")
    splits = Splits.of(data, data)
    held = splits.holding_out(4, 0)
    assert held.test == splits.test  # they are of the development split
    asked = {question.question: question for question in data.questions}
    orders = set()
    for seed in range(12):
        held = splits.holding_out(4, seed)
        shown = few_shots(session(llama, shots=4, seed=seed), held)
        assert len({example.question for example in shown}) == 4
        assert sum(example.known_label for example in shown) == 2
        orders.add(tuple(example.label for example in shown))
        for example in shown:
            assert (example.answer == asked[example.question].answer) == example.label
            assert split_of(asked[example.question].subject) == "development"
        assert few_shots(session(llama, shots=4, seed=seed), held) == shown
    assert len(orders) > 3  # of six
    assert few_shots(session(llama), splits) == []
    odd = [few_shots(session(llama, shots=3, seed=seed), held) for seed in range(8)]
    assert {sum(one.known_label for one in shown) for shown in odd} == {1, 2}


def test_shown_examples_of_the_paper_are_of_the_task_itself(llama: Llama, tmp_path: Path) -> None:
    facts = load_data("facts")
    strategy = [
        BinaryExample(f"Is {n} odd?", n % 3 == 0, context=f"About {n}.", id=f"{n}")
        for n in range(40)
    ]
    data = Loaded("strategyqa", [*strategy], origin="s", source=SOURCES["strategyqa"])
    splits = Splits.of(data, facts).holding_out(4, 0)
    shown = few_shots(session(llama, shots=4), splits)
    assert sorted(example.known_label for example in shown) == [False, False, True, True]
    assert all(example in strategy for example in shown)  # with their context
    assert len(splits.test) == 36
    assert not {one.id for one in shown} & {one.id for one in splits.test}
    assert splits.left_out.counts == {"it is for the few-shot examples": 4}


def test_no_other_question_on_the_passage_of_a_shown_example_is_evaluated(llama: Llama) -> None:
    passages = [f"Passage {n}." for n in range(12)]
    asked = [
        Question(f"{n}?", "Ann", passage, subject=passage, options=("Ann", "Bob"))
        for passage in passages
        for n in range(3)
    ]
    data = Loaded("ar-lsat", [*asked], origin="a", source=SOURCES["ar-lsat"])
    splits = Splits.of(data, load_data("facts")).holding_out(4, 0)
    shown = few_shots(session(llama, shots=4), splits)
    contexts = {example.context for example in shown}
    assert len(contexts) == 4  # of different passages, which are shown
    assert not contexts & {one.context for one in splits.test}
    assert len(splits.test) + sum(splits.left_out.counts.values()) == 36
    assert few_shots(session(llama, shots=4, context="none"), splits)[0].context is None


def test_what_gives_no_wrong_answer_is_not_shown_as_one(llama: Llama) -> None:
    asked = [Question(f"What is {n}?", "Rome", kind="capital") for n in range(20)]
    data = Loaded("musique", [*asked], origin="m", source=SOURCES["musique"])
    splits = Splits.of(data, load_data("facts")).holding_out(4, 0)
    with pytest.raises(DataError, match=r"musique gives \d of 4 examples to show; set shots lower"):
        few_shots(session(llama, shots=4), splits)
    with pytest.raises(DataError, match="too few questions to show 40 examples"):
        splits.holding_out(40, 0)


def test_a_rewritten_question_gets_its_passage_once_in_the_scenario_context(llama: Llama) -> None:
    rewritten = Binary([BinaryExample("Ann and Bob sit. Is it Ann?", True)], [0])
    asked = session(llama, scenario="context")
    binary = replace(rewritten, tasks=("rewritten questions",))
    assert as_scenario(asked, "ar-lsat", [CHOICE], binary) == binary.examples
    given = replace(rewritten, tasks=("yes/no questions",))
    assert as_scenario(asked, "ar-lsat", [CHOICE], given)[0].context == CHOICE.context
