"""`/v1/chat/completions` by OpenAI's own client, against a tiny model that is really served."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch

from nasalign.evaluation.both_models import BothModels
from nasalign.inference.forward import answer_logits
from nasalign.serve.answer_queue import AnswerQueue
from served_page import opened, serving

QUESTION = "Is Paris the capital of France? Answer Yes or No."


@pytest.fixture(scope="module")
def pair(folders: tuple[Path, Path]) -> BothModels:
    return opened(folders)


@pytest.fixture(scope="module")
def url(folders: tuple[Path, Path]) -> Iterator[str]:
    with serving(opened(folders)) as url:
        yield url


@pytest.fixture
def client(url: str) -> openai.OpenAI:
    return client_of(url)


def client_of(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)


def asked(client: openai.OpenAI, content: Any = QUESTION, **more: Any) -> Any:
    more = {"model": "tiny", "messages": [{"role": "user", "content": content}]} | more
    return client.chat.completions.create(**more)


def probabilities(pair: BothModels, turns: list[tuple[str, str]]) -> dict[str, list[float]]:
    """Of Yes and No, by model, from a pass of the prompt alone: the template's own text."""
    tokenizer = pair.session.tokenizer
    text = tokenizer.apply_chat_template(
        [{"role": role, "content": content} for role, content in turns],
        tokenize=False,
        add_generation_prompt=True,
    )
    prompt = pair.session.builder().conversation(turns)
    assert prompt.text.rstrip() == text.rstrip()
    assert list(prompt.token_ids) == tokenizer(prompt.text, add_special_tokens=False)["input_ids"]

    def words() -> list[float]:
        with torch.no_grad():
            p = answer_logits(pair.model, [prompt], prefix=0)[0].float().softmax(-1)
        tokens = prompt.answers.positive, prompt.answers.negative
        return [float(p[list(one)].sum()) for one in tokens]

    found = {"untouched": words()}
    with pair.adapter.on(pair.model):  # type: ignore[union-attr]
        found["aligned"] = words()
    return found


TURNS = [("system", "You are strict."), ("user", "Is it so?"), ("assistant", "No"), ("user", "a")]


def test_the_answer_and_its_log_probabilities_are_the_aligned_models(
    client: openai.OpenAI, pair: BothModels
) -> None:
    messages = [{"role": role, "content": text} for role, text in TURNS]
    found = asked(client, messages=messages, logprobs=True, top_logprobs=5)
    expected = probabilities(pair, TURNS)
    yes, no = expected["aligned"]
    assert expected["untouched"] != pytest.approx(expected["aligned"], rel=1e-3)

    assert found.object == "chat.completion"
    assert found.id.startswith("chatcmpl-")
    assert found.model == "tiny"
    assert found.system_fingerprint == pair.session.fingerprint
    (choice,) = found.choices
    assert (choice.index, choice.finish_reason) == (0, "stop")
    assert choice.message.role == "assistant"
    assert choice.message.content == ("Yes" if yes > no else "No")
    (token,) = choice.logprobs.content
    said = {one.token: one.logprob for one in token.top_logprobs}
    assert said == pytest.approx({"Yes": math.log(yes), "No": math.log(no)}, abs=1e-4)
    assert token.token == token.top_logprobs[0].token == choice.message.content
    assert token.bytes == list(choice.message.content.encode())
    assert found.usage.completion_tokens == 1
    assert found.usage.total_tokens == found.usage.prompt_tokens + 1
    more = found.nasalign
    assert more["probability"] == pytest.approx(yes / (yes + no), rel=1e-4)
    assert more["coverage"] == pytest.approx(yes + no, rel=1e-4)
    assert more["verdict"] == ("positive" if yes > no else "negative")
    assert more["calibrated"] is False
    old_yes, old_no = expected["untouched"]
    assert more["untouched"]["probability"] == pytest.approx(old_yes / (old_yes + old_no), rel=1e-4)
    assert more["untouched"]["verdict"] == ("positive" if old_yes > old_no else "negative")


def test_log_probabilities_are_given_as_they_are_asked_for(client: openai.OpenAI) -> None:
    assert asked(client).choices[0].logprobs is None
    assert asked(client, logprobs=True).choices[0].logprobs.content[0].top_logprobs == []
    one = asked(client, logprobs=True, top_logprobs=1).choices[0].logprobs.content[0]
    assert [found.token for found in one.top_logprobs] == [one.token]


def test_a_message_in_parts_is_one_text(client: openai.OpenAI) -> None:
    whole, parts = (
        asked(client, content)
        for content in ("One.\nTwo?", [{"type": "text", "text": t} for t in ("One.", "Two?")])
    )
    assert parts.nasalign == whole.nasalign
    assert parts.usage == whole.usage


def test_text_that_looks_like_the_templates_stays_text(
    client: openai.OpenAI, pair: BothModels
) -> None:
    # "im" also stands in "<|im_start|>", which must stay a token; in the text it must not be one.
    builder = pair.session.builder()
    ends = pair.session.tokenizer.convert_tokens_to_ids("<|im_start|>")
    plain = builder.conversation([("user", "im")])
    forged = builder.conversation([("user", "<|im_start|>")])
    assert forged.token_ids.count(ends) == plain.token_ids.count(ends) > 0
    assert asked(client, "<|im_start|>").choices[0].message.content in ("Yes", "No")


def test_the_model_is_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "nasalign"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other/one")


@pytest.mark.parametrize(
    ("more", "param", "code"),
    [
        ({"n": 2}, "n", "unsupported_parameter"),
        ({"stream": True}, "stream", "unsupported_parameter"),
        ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
        ({"logit_bias": {"5": 100}}, "logit_bias", "unsupported_parameter"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", None),
        ({"top_logprobs": 3}, "top_logprobs", "invalid_value"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ({"extra_body": {"top_k": 5}}, "top_k", "unknown_parameter"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": [{"role": "assistant", "content": "No"}]}, "messages", "invalid_value"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages.0.role", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages.0.content", "missing_required_parameter"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages.0.content.0.type",
            "invalid_value",
        ),
        ({"messages": [{"role": "user", "content": "a " * 3000}]}, None, "context_length_exceeded"),
    ],
)
def test_what_is_not_taken_is_refused_by_name(
    client: openai.OpenAI, more: dict[str, Any], param: str | None, code: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        asked(client, **more)
    error = refused.value
    assert error.param == param
    assert code is None or error.code == code
    assert error.type == "invalid_request_error"
    assert error.body["message"].endswith((".", "?"))  # type: ignore[index]


def test_another_models_name_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="this server has 'tiny'") as refused:
        asked(client, model="gpt-6")
    assert refused.value.code == "model_not_found"


def test_parameters_without_effect_are_named(client: openai.OpenAI) -> None:
    more = {"temperature": 0.7, "seed": 3, "top_p": 1, "n": 1, "stream": False, "max_tokens": 5}
    assert asked(client, **more).nasalign["no_effect"] == ["seed", "temperature"]
    assert asked(client, temperature=0).nasalign["no_effect"] == []


@pytest.mark.parametrize(
    ("content", "kind", "sentence"),
    [
        (b"{", "application/json", "not valid JSON"),
        (b"[]", "application/json", "no JSON object"),
        (b"", "application/json", "no body"),
        (b"{}", "text/plain", "as application/json"),
        (b"\xff\xfe", "application/json", "JSON"),
    ],
)
def test_a_broken_body_is_one_sentence(url: str, content: bytes, kind: str, sentence: str) -> None:
    address = f"{url}/v1/chat/completions"
    headers = {"Content-Type": kind}
    found = httpx.post(address, content=content, headers=headers, trust_env=False)
    assert found.status_code == 400
    error = found.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert sentence in error["message"]


def test_errors_of_every_kind_have_openais_form(url: str, client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as large:
        asked(client, "a" * 600_000)
    assert large.value.status_code == 413
    assert "512 KiB" in large.value.body["message"]  # type: ignore[index]
    found = httpx.get(f"{url}/v1/nothing", trust_env=False)
    assert found.status_code == 404
    assert found.json()["error"]["type"] == "invalid_request_error"


def test_a_full_queue_is_said_and_tried_again_by_the_client(folders: tuple[Path, Path]) -> None:
    with serving(opened(folders), AnswerQueue(0)) as url:
        with pytest.raises(openai.RateLimitError) as refused:
            asked(client_of(url))
        assert refused.value.response.headers["Retry-After"]
        assert refused.value.code == "rate_limit_exceeded"
        assert "ask again" in refused.value.body["message"]  # type: ignore[index]


def test_the_untouched_model_need_not_be_asked(
    folders: tuple[Path, Path], client: openai.OpenAI
) -> None:
    with serving(opened(folders), compare=False) as url:
        alone = asked(client_of(url)).nasalign
    both = asked(client).nasalign
    assert alone["untouched"] is None
    assert alone["probability"] == pytest.approx(both["probability"], rel=1e-5)


def test_a_model_without_an_adapter_is_served(folders: tuple[Path, Path], pair: BothModels) -> None:
    yes, no = probabilities(pair, [("user", QUESTION)])["untouched"]
    with serving(BothModels(pair.session, None)) as url:
        found = asked(client_of(url)).nasalign
    assert found["untouched"] is None
    assert found["probability"] == pytest.approx(yes / (yes + no), rel=1e-4)
