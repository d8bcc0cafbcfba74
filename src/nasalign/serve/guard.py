"""Checks of a request before the application sees it: the server's name, the origin, the size.

A page elsewhere on the web can make a browser send requests to this machine. It must not reach the
model by them: neither as a cross-site post, nor under a name of its own that it points here (DNS
rebinding). Starlette's ``TrustedHostMiddleware`` is not used: it cannot allow every IP address, and
it answers while the body is still arriving, so that the client may lose the answer.
"""

import asyncio
import json
import socket
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nasalign.serve.addresses import LOOPBACK, ip_address, listens_everywhere
from nasalign.serve.api_errors import error_object

BODY_LIMIT = 512 * 1024
"""Maximum size of a body, in bytes."""
READ_LIMIT = 4 * BODY_LIMIT
"""Bytes that are read of a refused body, so that its sender sees the answer."""
SECONDS = 10
"""Seconds that a body may take."""
LINGER = 1
"""Seconds in which a refused body is read."""


class Guard:
    """An ASGI application around another that passes on the requests that are allowed.

    ``host`` is where the server listens; ``headers`` are added to every response.
    """

    def __init__(self, app: ASGIApp, host: str, headers: dict[str, str]) -> None:
        self._app, self._headers = app, headers
        self._names = {*LOOPBACK, host.casefold()}
        self._everywhere = listens_everywhere(host)
        if self._everywhere:
            self._names.add(socket.gethostname().casefold())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request by its headers or its size, or passes it on with its body read."""
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        try:
            self._check(scope["method"], Headers(scope=scope))
            body = await _body_in_time(receive)
        except HTTPException as refusal:
            await _refuse(receive, send_with_headers, refusal, is_api(scope["path"]))
        else:
            await self._app(scope, _replayed(body, receive), send_with_headers)

    def _check(self, method: str, headers: Headers) -> None:
        """Raise HTTPException for a request that its headers do not allow."""
        host = headers.get("host", "")
        if not self._is_own(host):
            sentence = "This server is not called that; open it at the address that it printed."
            raise HTTPException(400, sentence)
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > BODY_LIMIT:
            raise _too_large()
        if method in ("GET", "HEAD"):
            return
        site = headers.get("sec-fetch-site", "same-origin")
        origin = headers.get("origin", f"http://{host}")  # programs send neither
        same = urlsplit(origin).netloc.casefold() == host.casefold()
        if not same or site not in ("same-origin", "none"):
            raise HTTPException(403, "Only the page of this server may ask the model.")

    def _is_own(self, host: str) -> bool:
        """Whether a Host header names this server; an IP address cannot be rebound."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._names or (self._everywhere and ip_address(name) is not None)


def is_api(path: str) -> bool:
    """Whether a path is one of the API, whose errors have OpenAI's form."""
    return path.startswith("/v1/")


def _too_large() -> HTTPException:
    return HTTPException(413, f"The request is larger than {BODY_LIMIT // 1024} KiB; shorten it.")


async def _body_in_time(receive: Receive) -> bytes:
    """Return the whole body; raise HTTPException where it is too large or too slow."""
    try:
        async with asyncio.timeout(SECONDS):
            body = await _read(receive, BODY_LIMIT)
    except TimeoutError:
        late = f"The request took longer than {SECONDS} s to arrive; send it again."
        raise HTTPException(408, late) from None
    if len(body) > BODY_LIMIT:
        raise _too_large()
    return body


async def _read(receive: Receive, limit: int) -> bytes:
    """Return a body, of a larger one its beginning, which is longer than the limit."""
    body, more = bytearray(), True
    while more and len(body) <= limit:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)  # not there when the client has left
    return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives the body that was read, and then what comes."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


async def _refuse(receive: Receive, send: Send, refusal: HTTPException, api: bool) -> None:
    """Answer at once, and end the connection after a little of what is still arriving.

    A connection that is closed while bytes arrive is reset, and the client loses the answer.
    """
    sentence, status = refusal.detail, refusal.status_code
    body = json.dumps(error_object(sentence, status) if api else {"error": sentence}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            await _read(receive, READ_LIMIT)
    await send({"type": "http.response.body", "body": b""})
