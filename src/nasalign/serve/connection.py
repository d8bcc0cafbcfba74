"""What uvicorn leaves open: how long a client may take over headers and answers, and how many.

A body's time and size are ``guard``'s.
"""

import asyncio
import itertools
from typing import cast

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

SECONDS = 10
"""Seconds that a client has for the headers of a request, or to take what is sent to it."""
CONNECTIONS = 128
"""Connections at once; one more ends the oldest that has not sent a whole request."""


class Connection(H11Protocol):
    """One client. Whoever sends byte by byte, nothing, or takes no answer is cut off."""

    _numbers = itertools.count()
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for a request."""
        super().connection_made(transport)
        self._number = next(self._numbers)
        if len(self.connections) > CONNECTIONS:
            everybody = cast("set[Connection]", self.connections)
            owing = (one for one in everybody if one is self or one._owes())
            oldest = min(owing, key=lambda one: one._number)
            everybody.discard(oldest)
            oldest.transport.abort()
        self._expect(None)

    def on_response_complete(self) -> None:
        """Begins to wait for the next request."""
        self._expect(self.cycle)
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Begins to wait until the client takes what is sent."""
        super().pause_writing()
        self._stalled = self.loop.call_later(SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has taken it."""
        super().resume_writing()
        if self._stalled:
            self._stalled.cancel()

    def _expect(self, last: RequestResponseCycle | None) -> None:
        """Ends the connection unless another request than ``last`` begins in time."""

        def give_up() -> None:
            if self.cycle is last:
                self.transport.abort()

        self.loop.call_later(SECONDS, give_up)

    def _owes(self) -> bool:
        """Says whether it waits for the client, not the client for an answer."""
        return self.cycle is None or self.cycle.more_body or self.cycle.response_complete
