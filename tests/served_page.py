"""The page as it is served: a real server on a free port, in a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from nasalign.commands.ask import Pair
from nasalign.serve.desk import Desk
from nasalign.serve.page_app import make_server
from nasalign.serve.server import PLACES, listen


@contextmanager
def serving(pair: Pair, desk: Desk | None = None) -> Iterator[str]:
    """Serves the page, and yields its URL without a slash; requests wait until it is ready."""
    desk = desk or Desk(PLACES)
    with listen("127.0.0.1", 0) as listener:
        server = make_server(pair, desk, "127.0.0.1", "tiny")
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)
            desk.close()
    assert not thread.is_alive()
