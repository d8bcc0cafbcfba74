"""Clients that are slow, silent or many keep nobody else waiting, nor the server from ending."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest
import torch

import tiny
from nasalign.errors import NasAlignError
from nasalign.prompts import template
from nasalign.serve import connection, guard, server
from nasalign.serve.answer_queue import AnswerQueue
from nasalign.serve.server import GRACE
from served_page import Slow, opened, post, serving, started
from tiny_pair import make_pair

SECONDS = 1.5
FEW = 128  # connections: both ends of all of them are in this process
ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
HEAD = "POST /api/ask HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"


@pytest.fixture
def url(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(connection, "SECONDS", SECONDS, raising=False)
    monkeypatch.setattr(guard, "SECONDS", SECONDS, raising=False)
    with serving(opened(folders)) as url:
        assert answered(url)
        yield url


def answered(url: str) -> bool:
    return post(url, {"question": "Is it?"}).status_code == 200


def connected(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").strip("/").split(":")
    opened = socket.create_connection((host, int(port)))
    opened.settimeout(20)
    return opened


def head(host: str = "127.0.0.1", *lines: str) -> bytes:
    return (HEAD.format(host=host) + "".join(f"{line}\r\n" for line in lines) + "\r\n").encode()


def trickled(opened: socket.socket, data: bytes, pause: float = 0.2) -> float:
    """Sends a byte at a time until the server hangs up or answers; returns the seconds."""
    start = time.monotonic()
    opened.settimeout(pause)
    for byte in data:
        with suppress(TimeoutError):
            try:
                opened.sendall(bytes([byte]))
                if opened.recv(4096) is not None:
                    break
            except ConnectionError:
                break
        if time.monotonic() - start > 15:
            break
    return time.monotonic() - start


def read(opened: socket.socket) -> str:
    """All that comes until the server hangs up."""
    parts = []
    with suppress(ConnectionError):
        while part := opened.recv(65536):
            parts.append(part)
    return b"".join(parts).decode()


@pytest.mark.parametrize("earlier", [False, True], ids=["first request", "second request"])
def test_headers_that_come_byte_by_byte(url: str, earlier: bool) -> None:
    with connected(url) as slow:
        said = b"" if earlier else b"}"
        if earlier:
            slow.sendall(b"GET /api/about HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        while b"}" not in said:
            said += slow.recv(65536)
        sent = threading.Thread(target=answered, args=(url,))
        sent.start()
        assert trickled(slow, head() * 9) < 2 * SECONDS + 2
        sent.join(20)
    assert answered(url)


def test_a_body_that_comes_byte_by_byte_is_answered_408(url: str) -> None:
    with connected(url) as slow:
        slow.sendall(head("127.0.0.1", "Content-Length: 400"))
        body = threading.Thread(target=trickled, args=(slow, b" " * 400), daemon=True)
        body.start()
        assert answered(url)
        body.join(20)
        assert not body.is_alive()
    with connected(url) as silent:
        silent.sendall(head("127.0.0.1", "Content-Length: 400"))
        said = read(silent)
    assert said.startswith("HTTP/1.1 408")
    assert "send it again" in said


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("evil.example", "Content-Length: 100000000"), 400),
        (("evil.example", "Content-Length: 100000000", "Expect: 100-continue"), 400),
        (("127.0.0.1", "Content-Length: 100000000"), 413),
        (("127.0.0.1", "Content-Length: 100", "Origin: http://evil.example"), 403),
        (("evil.example", "Transfer-Encoding: chunked"), 400),
    ],
)
def test_what_the_headers_refuse_is_refused_before_the_body(
    url: str, lines: tuple[str, ...], status: int
) -> None:
    with connected(url) as opened:
        start = time.monotonic()
        opened.sendall(head(*lines))
        assert opened.recv(4096).startswith(f"HTTP/1.1 {status}".encode())
        assert time.monotonic() - start < 1
        read(opened)
        assert time.monotonic() - start < guard.LINGER + 3


def test_who_sends_all_the_same_sees_the_answer(url: str) -> None:
    for content in (b" " * guard.BODY_LIMIT * 10, b" " * 1000):
        response = httpx.post(
            f"{url}/api/ask", content=content, headers={"Host": "evil.example"}, trust_env=False
        )
        assert response.status_code == 400


def hung_up(opened: socket.socket) -> bool:
    """Says whether the server has ended a connection."""
    opened.setblocking(False)
    try:
        return opened.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_two_hundred_idle_connections(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for limits in (connection, guard):
        monkeypatch.setattr(limits, "SECONDS", 600)  # it is their number that counts
    monkeypatch.setattr(connection, "CONNECTIONS", FEW)
    with ExitStack() as stack:
        idle = []
        for number in range(200):
            idle.append(stack.enter_context(connected(url)))
            if number % 2:
                idle[-1].sendall(head("127.0.0.1", "Content-Length: 9")[: 20 * (number % 8)])
            assert number % 50 or answered(url)
        assert answered(url)
        ended = [hung_up(opened) for opened in idle]
        assert all(ended[: 200 - FEW])
        assert not any(ended[200 - FEW + 10 :])
        assert answered(url)


def test_who_waits_for_an_answer_keeps_its_connection_however_many_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "CONNECTIONS", FEW)
    slow = Slow()
    with serving(slow, AnswerQueue(4)) as url, ExitStack() as stack:  # type: ignore[arg-type]
        said: list[bool] = []
        first = threading.Thread(target=lambda: said.append(answered(url)))
        first.start()
        assert slow.asked.get(timeout=20)
        for _ in range(2 * FEW):
            stack.enter_context(connected(url))
        about = httpx.get(f"{url}/api/about", timeout=20, trust_env=False)
        assert about.status_code == 200
        slow.may_end.set()
        first.join(30)
    assert said == [True]


def test_an_answer_that_is_not_taken_is_given_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given_up, lost = threading.Event(), connection.Connection.connection_lost

    def noted(self: connection.Connection, error: Exception | None) -> None:
        lost(self, error)
        given_up.set()

    with connected(url) as deaf:
        monkeypatch.setattr(connection.Connection, "connection_lost", noted)
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.setblocking(False)
        request = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 500
        ended = time.monotonic() + 60
        while time.monotonic() < ended and not given_up.wait(0.05):  # requests without end
            with suppress(BlockingIOError, ConnectionError):
                deaf.send(request)
        assert given_up.is_set()
    assert answered(url)


def test_closing_ends_a_template_and_a_pass_under_way(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template, "SECONDS", 1000)
    pair = opened(folders)
    endless = tiny.build_tokenizer()
    endless.chat_template = ENDLESS
    begun = threading.Event()

    def renders() -> None:
        begun.set()
        template.render(endless, [{"role": "user", "content": "Is it?"}], answering=True)

    def computes() -> None:
        while True:
            pair.model(torch.ones(1, 9, dtype=torch.long))
            begun.set()

    for work in (renders, computes):
        queue = AnswerQueue(2)
        begun.clear()
        under_way, waiting = queue.add(work), queue.add(lambda: None)
        assert begun.wait(30)
        start = time.monotonic()
        if work is computes:
            server.end_passes(pair.model)
        queue.close(template.stop)
        assert time.monotonic() - start < 20
        assert isinstance(under_way.exception(), NasAlignError)
        assert waiting.cancelled()


def a_question(url: str) -> None:
    with suppress(httpx.HTTPError):
        answered(url)


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="Windows sends no signal to one process alone")
@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)]
)
@pytest.mark.parametrize("kind", ["good template", "endless template"])
def test_a_signal_ends_it_whatever_clients_do(
    tmp_path: Path, number: signal.Signals, kind: str
) -> None:
    model, adapter = make_pair(tmp_path)
    if kind == "endless template":
        tokenizer = tiny.build_tokenizer()
        tokenizer.chat_template = ENDLESS
        tokenizer.save_pretrained(model)
    with started(model, adapter) as (process, url), ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(connected(url))
        for begun in (head()[:30], head("127.0.0.1", "Content-Length: 99") + b"{"):
            stack.enter_context(connected(url)).sendall(begun)
        for _ in range(5):
            threading.Thread(target=a_question, args=(url,), daemon=True).start()
        time.sleep(2)  # the questions are under way
        start = time.monotonic()
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
        assert time.monotonic() - start < GRACE + 20  # on a machine with other work, too
    assert "Stopped; the model's files are untouched." in said
    assert process.returncode == 0
