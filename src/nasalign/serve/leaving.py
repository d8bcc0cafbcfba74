"""Waiting for an answer as long as the client waits for it."""

import asyncio
from concurrent.futures import Future
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request

T = TypeVar("T")


async def unless_left(request: Request, future: "Future[T]") -> T:
    """Wait for a result; if the client leaves before its turn comes, the work is cancelled."""
    result: asyncio.Future[T] = asyncio.wrap_future(future)
    left: asyncio.Future[None] = asyncio.ensure_future(_left(request))
    both: set[asyncio.Future[Any]] = {result, left}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        left.cancel()
        if not result.done():
            result.cancel()
    if result.cancelled():  # the client has left, or the server ends
        raise HTTPException(503, "The question was given up.")
    return result.result()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
