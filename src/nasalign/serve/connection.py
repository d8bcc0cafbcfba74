"""Limits that uvicorn lacks: the time for headers and answers, and the number of connections.

``guard`` limits the time and the size of a body.
"""

import asyncio
import itertools
from typing import cast

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

SECONDS = 10
"""Seconds that a client has to send the headers of a request, or to take what is sent to it."""
CONNECTIONS = 512
"""Open connections; one more ends the oldest that has not sent a whole request."""


class Connection(H11Protocol):
    """A client's connection, which is aborted when the client is too slow."""

    _numbers = itertools.count()
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request; end another connection where there are too many."""
        super().connection_made(transport)
        self._number = next(self._numbers)
        if len(self.connections) > CONNECTIONS:
            others = cast("set[Connection]", self.connections)
            idle = (one for one in others if one is self or one._waits_for_client())
            oldest = min(idle, key=lambda one: one._number)
            others.discard(oldest)
            oldest.transport.abort()
        self._expect_request(None)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._expect_request(self.cycle)
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The write buffer is full: waits until the client reads."""
        super().pause_writing()
        self._stalled = self.loop.call_later(SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        if self._stalled:
            self._stalled.cancel()

    def _expect_request(self, last: RequestResponseCycle | None) -> None:
        """Abort the connection unless another request than ``last`` begins in time."""

        def give_up() -> None:
            if self.cycle is last:
                self.transport.abort()

        self.loop.call_later(SECONDS, give_up)

    def _waits_for_client(self) -> bool:
        """Whether the client owes a request or its body, and is not waiting for an answer."""
        return self.cycle is None or self.cycle.more_body or self.cycle.response_complete
