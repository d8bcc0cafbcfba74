"""`/v1/decisions` by OpenAI's own client, against a tiny model that is really served."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest

from nasalign.adapters.scaling import PlattScaling
from nasalign.evaluation.both_models import BothModels
from nasalign.serve.answer_queue import PLACES
from nasalign.serve.decision_api import MOST_PROMPTS
from served_page import opened, serving

TEXT = "The tower is in Paris. It is 330 m high."
SCALING = PlattScaling(0.5, 1.25)


@pytest.fixture(scope="module")
def pair(folders: tuple[Path, Path]) -> BothModels:
    return opened(folders)


@pytest.fixture(scope="module")
def client(folders: tuple[Path, Path]) -> Iterator[openai.OpenAI]:
    with serving(opened(folders)) as url:
        yield client_of(url)


def client_of(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)


def decided(client: openai.OpenAI, *questions: Any, given: Any = TEXT, **more: Any) -> Any:
    return client.decisions.create(model="tiny", input=given, questions=questions, **more)


def odds(pair: BothModels, side: str = "aligned", **values: str) -> float:
    """Log odds of Yes as `ask` finds them, one question at a time."""
    found = pair.ask(pair.example(values))[side]
    return math.log(found["p_yes"] / found["p_no"])


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_a_predicate_is_answered_as_ask_answers(client: openai.OpenAI, pair: BothModels) -> None:
    one = {"type": "predicate", "name": "where", "instructions": "Is the tower in France?"}
    two = {"type": "predicate", "instructions": [{"type": "input_text", "text": "Is it high?"}]}
    found = decided(client, one, two)
    assert found.model == "tiny"
    assert [(answer.type, answer.name) for answer in found.answers] == [
        ("predicate", "where"),
        ("predicate", None),
    ]
    for answer, question in zip(
        found.answers, ("Is the tower in France?", "Is it high?"), strict=True
    ):
        asked = pair.ask(pair.example({"question": question, "context": TEXT}))
        own, old = asked["aligned"], asked["untouched"]
        more = answer.nasalign
        yes = own["p_yes"] / (own["p_yes"] + own["p_no"])
        assert answer.probability == pytest.approx(yes, rel=1e-4)
        assert more["verdict"] == own["verdict"]
        assert more["coverage"] == pytest.approx(own["coverage"], rel=1e-4)
        assert more["calibrated"] is False
        yes = old["p_yes"] / (old["p_yes"] + old["p_no"])
        assert more["untouched"]["probability"] == pytest.approx(yes, rel=1e-4)
        assert more["untouched"]["verdict"] == old["verdict"]
    assert found.usage.input_tokens == found.usage.total_tokens > 0
    assert found.usage.output_tokens == 0


def test_a_choice_weighs_the_odds_of_its_options(client: openai.OpenAI, pair: BothModels) -> None:
    choices = [{"value": "Paris"}, {"value": "Rome", "description": "in Italy"}, {"value": True}]
    question = {"type": "choice", "instructions": "Where is it?", "choices": choices}
    (answer,) = decided(client, question).answers
    texts = ("Paris", "Rome (in Italy)", "true")
    own = [odds(pair, question="Where is it?", answer=text, context=TEXT) for text in texts]
    weights = [math.exp(value) for value in own]
    shares = [weight / sum(weights) for weight in weights]
    assert [one.value for one in answer.probabilities] == ["Paris", "Rome", True]
    assert [one.probability for one in answer.probabilities] == pytest.approx(shares, rel=1e-3)
    assert answer.choice == ["Paris", "Rome", True][shares.index(max(shares))]
    assert answer.confidence == pytest.approx((max(shares) - 1 / 3) / (2 / 3), rel=1e-2)
    options = answer.nasalign["options"]
    assert [one["probability"] for one in options] == pytest.approx(
        [sigmoid(value) for value in own], rel=1e-3
    )
    old = [
        math.exp(odds(pair, "untouched", question="Where is it?", answer=text, context=TEXT))
        for text in texts
    ]
    untouched = [one["probability"] for one in answer.nasalign["untouched"]["probabilities"]]
    assert untouched == pytest.approx([weight / sum(old) for weight in old], rel=1e-3)


def test_a_score_is_the_expected_level(client: openai.OpenAI, pair: BothModels) -> None:
    levels = [{"label": "low"}, {"label": "middle"}, {"label": "high"}]
    question = {"type": "score", "instructions": "How high?", "levels": levels}
    (answer,) = decided(client, question).answers
    weights = [
        math.exp(odds(pair, question="How high?", answer=one["label"], context=TEXT))
        for one in levels
    ]
    shares = [weight / sum(weights) for weight in weights]
    assert [(one.value, one.label) for one in answer.probabilities] == [
        (0, "low"),
        (1, "middle"),
        (2, "high"),
    ]
    assert [one.probability for one in answer.probabilities] == pytest.approx(shares, rel=1e-3)
    assert answer.score == pytest.approx(shares[1] + 2 * shares[2], rel=1e-3)


def test_calibration_is_used_and_said(folders: tuple[Path, Path], pair: BothModels) -> None:
    question = {"type": "predicate", "instructions": "Is it high?"}
    choice = {
        "type": "choice",
        "instructions": "Where is it?",
        "choices": [{"value": "Paris"}, {"value": "Rome"}],
    }
    with serving(opened(folders), calibration=SCALING) as url:
        first, second = decided(client_of(url), question, choice).answers
        chat = client_of(url).chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "Is it?"}]
        )
    own = odds(pair, question="Is it high?", context=TEXT)
    assert first.probability == pytest.approx(sigmoid(0.5 * own + 1.25), rel=1e-4)
    assert first.nasalign["calibrated"] is True
    old = odds(pair, "untouched", question="Is it high?", context=TEXT)
    assert first.nasalign["untouched"]["probability"] == pytest.approx(sigmoid(old), rel=1e-4)
    weights = [
        math.exp(0.5 * odds(pair, question="Where is it?", answer=text, context=TEXT) + 1.25)
        for text in ("Paris", "Rome")
    ]
    assert second.probabilities[0].probability == pytest.approx(weights[0] / sum(weights), rel=1e-3)
    assert chat.nasalign["calibrated"] is False  # of messages in other words


def test_a_conversation_is_shown_with_its_roles(client: openai.OpenAI, pair: BothModels) -> None:
    messages = [
        {"role": "user", "content": "Where is it?"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "In Paris."}]},
        {"role": "user", "content": [{"type": "input_json", "data": {"high": 330}}]},
    ]
    question = {"type": "predicate", "instructions": "Is it polite?"}
    (answer,) = decided(client, question, given=messages).answers
    shown = 'User: Where is it?\nAssistant: In Paris.\nUser: {"high": 330}'
    own = odds(pair, question="Is it polite?", context=shown)
    assert answer.probability == pytest.approx(sigmoid(own), rel=1e-4)
    (alone,) = decided(client, question, given=[{"role": "user", "content": TEXT}]).answers
    (text,) = decided(client, question).answers
    assert alone.probability == pytest.approx(text.probability, rel=1e-5)


def test_a_template_takes_its_columns_from_json(pair: BothModels) -> None:
    template = "Policy: {policy}\nText: {text}\nIs it allowed? Answer Yes or No."
    session = pair.session.with_settings(template=template)
    own = replace(pair, session=session)
    data = {"policy": "be kind", "text": "hello"}
    message = {"role": "user", "content": [{"type": "input_json", "data": data}]}
    question = {"type": "predicate", "instructions": ""}
    with serving(own) as url:
        (answer,) = decided(client_of(url), question, given=[message]).answers
        with pytest.raises(openai.BadRequestError, match="The prompt takes policy, text"):
            decided(client_of(url), question)
    assert answer.probability == pytest.approx(sigmoid(odds(own, **data)), rel=1e-4)


CHOICE = {"type": "choice", "instructions": "Which?", "choices": [{"value": "a"}, {"value": "b"}]}


@pytest.mark.parametrize(
    ("questions", "more", "param"),
    [
        ([], {}, "questions"),
        ([{"type": "predicate"}], {}, "questions.0.predicate.instructions"),
        ([{"type": "box", "instructions": "a"}], {}, "questions.0"),
        ([CHOICE | {"choices": [{"value": "a"}]}], {}, "questions.0.choice.choices"),
        ([CHOICE | {"choices": [{"value": "a"}] * 2}], {}, "questions.0.choices"),
        ([CHOICE | {"choices": [{"value": 1}, {"value": 2}]}], {}, None),
        ([CHOICE], {"extra_body": {"top_k": 1}}, "top_k"),
        ([CHOICE], {"given": [{"role": "user", "content": [{"type": "input_image"}]}]}, None),
        ([CHOICE], {"given": [{"type": "function_call", "name": "f"}]}, None),
        ([CHOICE], {"given": "a " * 3000}, None),
    ],
)
def test_what_cannot_be_answered_is_refused(
    client: openai.OpenAI, questions: list[Any], more: dict[str, Any], param: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        decided(client, *questions, **more)
    assert refused.value.type == "invalid_request_error"
    assert param is None or refused.value.param == param


def test_too_many_questions_are_refused(client: openai.OpenAI) -> None:
    levels = [{"label": str(number)} for number in range(MOST_PROMPTS // 3)]
    score = {"type": "score", "instructions": "How much?", "levels": levels}
    with pytest.raises(openai.BadRequestError, match="ask fewer") as refused:
        decided(client, score, score, score, score)
    assert refused.value.code == "request_too_large"
    assert MOST_PROMPTS <= PLACES  # one that is taken finds a place in an empty queue


def test_parameters_without_effect_are_named(client: openai.OpenAI) -> None:
    found = decided(client, CHOICE, safety_identifier="somebody")
    assert found.nasalign == {"no_effect": ["safety_identifier"]}
