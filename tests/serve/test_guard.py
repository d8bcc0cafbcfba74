"""What a request must be before it is read, over a real connection."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.types import Message

from nasalign.data.access import is_loopback
from nasalign.serve.guard import BODY_LIMIT, READ_LIMIT, Guard
from served_page import opened, serving

JSON = {"Content-Type": "application/json"}
ASKED = json.dumps({"question": "Is it?"}).encode()


async def nothing(scope: object, receive: object, send: object) -> None:
    pass


@pytest.fixture(scope="module")
def client(folders: tuple[Path, Path]) -> Iterator[httpx.Client]:
    with (
        serving(opened(folders)) as url,
        httpx.Client(base_url=url, timeout=60, trust_env=False) as client,
    ):
        yield client


def post(client: httpx.Client, content: bytes = ASKED, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/api/ask", content=content, headers=JSON | named)


def refused(response: httpx.Response, status: int) -> str:
    """The one sentence of a refusal."""
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    sentence = response.json()["error"]
    assert sentence.endswith((".", "?"))
    return sentence


FOREIGN = ("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.nip.io")


@pytest.mark.parametrize("host", [*FOREIGN, "", "[", "10.0.0.1"])
def test_another_name_is_refused(client: httpx.Client, host: str) -> None:
    assert "not called that" in refused(client.get("/", headers={"Host": host}), 400)
    assert "not called that" in refused(post(client, Host=host), 400)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9", "127.0.0.1", "[::1]:8000"])
def test_this_machine_has_several_names(client: httpx.Client, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 200


def test_a_page_elsewhere_is_refused(client: httpx.Client) -> None:
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "", "http://localhost"):
        assert "Only the page" in refused(post(client, Origin=origin), 403)
    for site in ("cross-site", "same-site"):
        assert "Only the page" in refused(post(client, Sec_Fetch_Site=site), 403)
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    refused(client.request("OPTIONS", "/api/ask", headers=preflight), 403)


def test_the_page_itself_and_a_script_may_ask(client: httpx.Client) -> None:
    own = str(client.base_url).rstrip("/")
    assert post(client, Origin=own, Sec_Fetch_Site="same-origin").status_code == 200
    assert post(client).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_form_is_refused(client: httpx.Client, kind: str) -> None:
    assert "as application/json" in refused(post(client, Content_Type=kind), 422)


def test_a_body_is_not_larger_than_the_limit(client: httpx.Client) -> None:
    large = b'{"question": "' + b"a" * BODY_LIMIT + b'"}'
    assert "512 KiB" in refused(post(client, large), 413)

    def pieces() -> Iterator[bytes]:  # sent without its length
        for _ in range(BODY_LIMIT // 1024 + 2):
            yield b"a" * 1024

    response = client.post("/api/ask", content=pieces(), headers=JSON)
    assert "512 KiB" in refused(response, 413)


def test_a_body_without_end_is_not_read_to_its_end() -> None:
    read, sent = [], []

    async def receive() -> Message:
        read.append(1)
        return {"type": "http.request", "body": b"a" * BODY_LIMIT, "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/api/ask", "headers": headers}
    asyncio.run(Guard(nothing, "127.0.0.1", {})(scope, receive, send))
    assert sent[0]["status"] == 413
    assert len(read) <= READ_LIMIT // BODY_LIMIT + 3


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({}, "There is no question"),
        ({"question": "  "}, "There is no question"),
        ({"question": "a" * 2001}, "The question is longer than 2,000 characters"),
        ({"question": "a", "answer": "b" * 501}, "The answer is longer than 500 characters"),
        ({"question": "a", "context": "c " * 10_001}, "The context is longer than 20,000"),
        ({"question": 3}, "The question is no text"),
        ({"question": "\ud800"}, "The question is no text"),
        ({"question": "a", "heads": 3}, "There is no 'heads'"),
        ([], "JSON object"),
        ("[" * 100_000, "parsing the body"),
        ('{"question": "a"', "JSON object"),
        (b"\xff\xfe", "JSON"),
        ({"question": "a", "context": "word " * 3000}, "more than the model's context"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    client: httpx.Client, asked: object, sentence: str
) -> None:
    content = asked if isinstance(asked, bytes | str) else json.dumps(asked)
    content = content.encode() if isinstance(content, str) else content
    response = post(client, content)
    assert response.status_code in (400, 422), response.text
    assert sentence in refused(response, response.status_code)


def test_every_response_has_the_policy(client: httpx.Client) -> None:
    for response in (
        client.get("/"),
        client.get("/api/about"),
        post(client),
        client.get("/nothing"),
        client.get("/docs"),
        client.get("/", headers={"Host": "evil.example"}),
    ):
        headers = response.headers
        policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["frame-ancestors"] == "'none'"
        assert policy["script-src"].startswith("'sha256-")
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "server" not in headers
    assert client.get("/docs").status_code == 404
    page = client.get("/").text
    assert not any(part in page for part in ("http:", "https:", "innerHTML"))


def test_a_server_at_all_addresses_is_called_by_any_of_them() -> None:
    guard = Guard(nothing, "0.0.0.0", {})
    assert guard._is_own("192.168.1.7:8000")
    assert not guard._is_own("evil.example:8000")
    assert Guard(nothing, "box.lan", {})._is_own("Box.LAN:8000")


def test_loopback_is_known() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.1.2.3", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "", "box.lan", "192.168.1.7")))
