"""What a request must be before it is read: of this page, for this server, and small.

A page elsewhere on the web can make a browser send requests to this machine. It must not reach the
model by them: neither as a cross-site post, nor under a name of its own that it points here (DNS
rebinding).
"""

import asyncio
import ipaddress
import json
import socket
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_LIMIT = 128 * 1024
"""Bytes of a body at most."""
READ_LIMIT = 16 * BODY_LIMIT
"""Bytes that are read of a body that is refused, so that who sends it sees the answer."""
SECONDS = 10
"""Seconds that a body may take."""
LINGER = 1
"""Seconds in which a body that is refused is read."""
_TOO_LARGE = 413, f"The request is larger than {BODY_LIMIT // 1024} KiB; shorten it."
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def is_loopback(host: str) -> bool:
    """Says whether a host is this machine alone."""
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def listens_everywhere(host: str) -> bool:
    """Says whether a server at a host can be reached by every address of this machine."""
    address = _address(host)
    return host == "" or (address is not None and address.is_unspecified)


def names_of(host: str) -> set[str]:
    """Returns the names that requests may use for a server that listens at a host.

    One that listens at all addresses is called by this machine's name too; that it is called by
    any address is allowed in ``Guard``, since an address cannot be rebound.
    """
    names = {*LOOPBACK, host.casefold()}
    return names | ({socket.gethostname().casefold()} if listens_everywhere(host) else set())


class Guard:
    """An ASGI application around another that lets only such requests through, in time.

    Args:
        app: the application.
        host: at which the server listens.
        headers: put on every response.
    """

    def __init__(self, app: ASGIApp, host: str, headers: dict[str, str]) -> None:
        self._app, self._headers = app, headers
        self._names, self._everywhere = names_of(host), listens_everywhere(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request by its headers alone, or passes it on with its body read."""
        if scope["type"] != "http":
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        body: bytes | None = None
        refusal = self._refusal(scope["method"], Headers(scope=scope))
        if refusal is None:
            try:
                async with asyncio.timeout(SECONDS):
                    body = await _body(receive)
                refusal = _TOO_LARGE if body is None else None
            except TimeoutError:
                refusal = 408, f"The request took longer than {SECONDS} s to arrive; send it again."
        if refusal:
            await _refuse(receive, send_guarded, *refusal)
        else:
            await self._app(scope, _replayed(body or b"", receive), send_guarded)

    def _refusal(self, method: str, headers: Headers) -> tuple[int, str] | None:
        """Status and sentence for a request that is not let through."""
        hosts = headers.getlist("host")
        length = headers.get("content-length", "")
        if len(hosts) != 1 or not self._knows(hosts[0]):
            return 400, "This server is not called that; open it at the address that it printed."
        if length.isdecimal() and int(length) > BODY_LIMIT:
            return _TOO_LARGE
        if method in ("GET", "HEAD"):
            return None
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "Only the page of this server may ask the model."
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.casefold() != hosts[0].casefold():
            return 403, "Only the page of this server may ask the model."
        kind = headers.get("content-type", "").partition(";")[0].strip().casefold()
        if kind != "application/json":
            return 415, "A question is sent as application/json."
        return None

    def _knows(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._names or (self._everywhere and _address(name) is not None)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


async def _body(receive: Receive) -> bytes | None:
    """The whole body, or None where it is too large."""
    body = bytearray()
    while len(body) <= BODY_LIMIT:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):  # its end, or who asked has left
            return bytes(body) if len(body) <= BODY_LIMIT else None
    return None


async def _discard(receive: Receive) -> None:
    """Reads what is left of a body, as far as its sender is let finish."""
    length, more = 0, True
    while more and length <= READ_LIMIT:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read already, and then what comes."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


async def _refuse(receive: Receive, send: Send, status: int, sentence: str) -> None:
    """Answers at once and ends the connection, after a little of what is still on its way."""
    body = json.dumps({"error": sentence}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    with suppress(TimeoutError):  # a connection that is ended while bytes come in loses its answer
        async with asyncio.timeout(LINGER):
            await _discard(receive)
    await send({"type": "http.response.body", "body": b""})
