"""An OpenAI-compatible server on loopback that answers what it is told to, and counts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from typing import Any

from loopback import send, serve

Reply = tuple[int, Any]


def completion(text: str | None, ends: str = "stop") -> Reply:
    """A chat completion that says ``text``, and why it ends."""
    message = {"role": "assistant", "content": text}
    body = {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": ends, "message": message}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
    }
    return 200, body


class FakeEndpoint:
    """What the server does, and what it was asked.

    Attributes:
        reply: gives status and body for the JSON of a request.
        asked: every request that came, in order.
        busiest: the most requests under way at once.
        url: the base URL.
    """

    def __init__(self) -> None:
        self.reply: Callable[[dict[str, Any]], Reply] = lambda request: completion("yes")
        self.asked: list[dict[str, Any]] = []
        self.busiest = self._busy = 0
        self._lock = threading.Lock()
        self.url = ""

    def handle(self, request: dict[str, Any]) -> Reply:
        with self._lock:
            self.asked.append(request)
            self._busy += 1
            self.busiest = max(self.busiest, self._busy)
        try:
            return self.reply(request)
        finally:
            with self._lock:
                self._busy -= 1


@contextmanager
def serving() -> Iterator[FakeEndpoint]:
    """Runs a fake endpoint on a free port."""
    fake = FakeEndpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            status, body = fake.handle(json.loads(self.rfile.read(length)))
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            with suppress(BrokenPipeError):  # who asked may be gone
                send(self, status, data, Content_Type="application/json")

    with serve(Handler) as address:
        fake.url = f"{address}/v1"
        yield fake


def slowly(seconds: float, reply: Reply) -> Callable[[dict[str, Any]], Reply]:
    """A reply that takes its time."""

    def wait(request: dict[str, Any]) -> Reply:
        time.sleep(seconds)
        return reply

    return wait
