"""One thread that asks the model, and a bounded queue of requests that wait for it."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import BoundedSemaphore
from typing import Any, TypeVar

PLACES = 64
"""Questions that may wait for the model at once, the one being answered included."""
T = TypeVar("T")


class QueueFullError(Exception):
    """All places of the queue are taken, or it is closed."""


class AnswerQueue:
    """Runs one task after the other in a thread of its own; ``places`` may run or wait at once."""

    def __init__(self, places: int = PLACES) -> None:
        self._places = BoundedSemaphore(places)
        self._executor = ThreadPoolExecutor(1, "nasalign-model")
        self._taken: set[Future[Any]] = set()

    def add(self, work: Callable[[], T]) -> Future[T]:
        """Queue a task, or raise QueueFullError; one cancelled before its turn is never run."""
        if not self._places.acquire(blocking=False):
            raise QueueFullError
        try:
            future = self._executor.submit(work)
        except RuntimeError as error:  # it was closed
            self._places.release()
            raise QueueFullError from error
        self._taken.add(future)
        future.add_done_callback(self._free)
        return future

    def close(self, stop: Callable[[], None] = lambda: None) -> None:
        """Cancel what waits, and call ``stop`` repeatedly until the running task has ended."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        while self._taken:
            stop()
            wait(self._taken.copy(), timeout=0.2)
        self._executor.shutdown(wait=True)

    def _free(self, done: Future[Any]) -> None:
        self._taken.discard(done)
        self._places.release()
