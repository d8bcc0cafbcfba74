"""A key is sent to the endpoint, and stands in no file, no output and no exception."""

import json
import logging
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

import cases
from fake_endpoint import FakeEndpoint, Reply, completion, serving
from fault_tools import invoke
from nasalign.config import Settings
from nasalign.data import endpoint as module
from nasalign.data.access import Access
from nasalign.data.conversation import Conversation
from nasalign.data.endpoint import EndpointChat
from nasalign.errors import EndpointError
from nasalign.run import Run
from nasalign.session import Endpoints

KEY, PASSWORD, TOKEN = "sk-aVerySecretKey", "pa$$word-of-mine", "hf_aVerySecretToken"
IN_QUERY = "of/a%20query"
QUERY = f"?version=2&api_key={IN_QUERY}"
ASKED = [Conversation("Be short.", "Is it?")]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEndpoint]:
    """An endpoint whose address and key are in the environment, as are other secrets."""
    with serving() as fake:
        url = fake.url.replace("//", f"//someone:{PASSWORD}@") + QUERY
        values = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": url, "HF_TOKEN": TOKEN}
        for name, value in (values | {"NASALIGN_CACHE": str(tmp_path / "cache")}).items():
            monkeypatch.setenv(name, value)
        yield fake


def kept_secret(text: str, where: object) -> None:
    for secret in (KEY, PASSWORD, TOKEN, IN_QUERY, "of/a query", "of%2Fa+query", "of%2Fa%20query"):
        assert secret not in text, where


def repeats_the_key(request: dict) -> Reply:
    said = f"Incorrect API key {KEY} of someone:{PASSWORD} or {TOKEN} at /v1{QUERY} (of/a query)"
    return 401, {"error": {"message": said, "type": "invalid", "code": "invalid_api_key"}}


@pytest.mark.parametrize("fails", [False, True])
def test_an_alignment_with_a_judge(
    fake: FakeEndpoint,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    fails: bool,
) -> None:
    if fails:
        fake.reply = repeats_the_key
    model, questions = cases.case(tmp_path, cases.DENIES, 16)
    out = tmp_path / "run"
    arguments = ["align", model, "--data", questions, "--out", out, "--judge", "openai:judge"]
    settings = ("k=6", "n=2", "consistency=0.2", "epochs=1", "bootstrap_samples=50")
    caplog.set_level(logging.INFO)
    done = invoke(*arguments, *cases.sets((*settings, "side_effect_questions=4")))
    assert fake.asked, done.stderr
    assert done.exit_code == (2 if fails else 0), done.stderr
    assert ("answers 401: " in done.stderr) == fails
    printed = capfd.readouterr()
    kept_secret(done.output + caplog.text + printed.out + printed.err, "the output")
    assert done.exc_info is not None
    kept_secret("".join(traceback.format_exception(*done.exc_info)), "the traceback")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.is_relative_to(out) for path in files)
    for path in files:
        content = path.read_bytes()
        for secret in (KEY, PASSWORD, TOKEN, IN_QUERY, "of/a query"):
            assert secret.encode() not in content, path
    assert fails or json.loads((out / "run.json").read_text())["endpoints"]


@pytest.mark.parametrize("status", [401, 403, 404, 418, 400, 200])
def test_an_endpoint_that_repeats_the_key(
    fake: FakeEndpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    fake.reply = lambda request: (status, repeats_the_key(request)[1])
    with pytest.raises(EndpointError) as caught:
        EndpointChat("gpt-4", tmp_path / "answers.sqlite").complete(ASKED)
    kept_secret("".join(traceback.format_exception(caught.value)), "the traceback")
    kept_secret(caplog.text.split("HTTP Response")[0], "the log")


def test_an_endpoint_that_is_not_there(
    fake: FakeEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRIES", 0)
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://someone:{PASSWORD}@127.0.0.1:1/v1{QUERY}")
    chat = EndpointChat("gpt-4", tmp_path / "answers.sqlite")
    with pytest.raises(EndpointError, match="cannot be reached") as caught:
        chat.complete(ASKED)
    kept_secret("".join(traceback.format_exception(caught.value)), "the traceback")


def test_user_and_password_of_the_url_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "https://me:p%40ss@host.example:8000/v1")
    access = Access.from_environment()
    assert access.url == "https://host.example:8000/v1"
    assert access.headers == {"Authorization": "Basic bWU6cEBzcw=="}
    assert "p@ss" not in repr(access)


@pytest.mark.parametrize(
    ("url", "key", "told"),
    [
        ("http://judge.example/v1", KEY, "judge.example"),
        ("http://192.168.1.2:8000/v1", KEY, "192.168.1.2:8000"),
        ("http://me:word@judge.example/v1", "", "judge.example"),
        ("http://judge.example/v1?key=abcdef", "", "judge.example"),
        ("http://judge.example/v1", "", ""),
        ("https://judge.example/v1", KEY, ""),
        ("http://localhost:8000/v1", KEY, ""),
        ("http://127.3.2.1:8000/v1", KEY, ""),
        ("http://[::1]:8000/v1", KEY, ""),
    ],
)
def test_a_key_in_clear_is_warned_of_once(
    url: str, key: str, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.setenv("OPENAI_API_KEY", key)
    monkeypatch.setenv("NASALIGN_CACHE", str(tmp_path))
    said: list[str] = []
    run, endpoints = Run(), Endpoints()
    monkeypatch.setattr(run.reporter, "say", said.append)
    for part in (run, run, run.part(None)):
        for model in ("openai:a", "openai:b"):
            endpoints.chat(model, Settings(), part)
    warned = f"Warning: OPENAI_BASE_URL is plain http, so the key goes to {told} in clear"
    assert [one.partition(";")[0] for one in said] == [warned] * bool(told)


@pytest.mark.parametrize("url", ["no url", "ftp://host/v1", "http://", "http://host:port/v1"])
def test_a_url_that_is_none(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    with pytest.raises(EndpointError, match="is not a URL"):
        EndpointChat("gpt-4", tmp_path / "answers.sqlite")


def test_half_a_character_in_an_answer_is_kept_as_a_question_mark(
    fake: FakeEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", fake.url)
    fake.reply = lambda request: completion("yes\ud800")
    chat = EndpointChat("gpt-4", tmp_path / "answers.sqlite")
    assert chat.complete(ASKED) == ["yes?"]
