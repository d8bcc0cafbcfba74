"""One thread that asks the model, and a bounded queue of those who wait for it."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import BoundedSemaphore
from typing import Any, TypeVar

T = TypeVar("T")


class DeskFullError(Exception):
    """All places of the queue are taken."""


class Desk:
    """Does what it is given, one piece after the other, in one thread of its own.

    Args:
        places: pieces that may be under way or wait at once.
    """

    def __init__(self, places: int) -> None:
        self._places = BoundedSemaphore(places)
        self._executor = ThreadPoolExecutor(1, "nasalign-model")
        self._taken: set[Future[Any]] = set()

    def take(self, work: Callable[[], T]) -> Future[T]:
        """Queues a piece of work; one that is cancelled before its turn is never done.

        Raises:
            DeskFullError: no place is free.
        """
        if not self._places.acquire(blocking=False):
            raise DeskFullError
        try:
            future = self._executor.submit(work)
        except RuntimeError as error:  # it was closed
            self._places.release()
            raise DeskFullError from error
        self._taken.add(future)
        future.add_done_callback(self._free)
        return future

    def close(self, stop: Callable[[], None] = lambda: None) -> None:
        """Cancels what waits, and returns when what is under way is done.

        Args:
            stop: makes what is under way end soon; called until it has.
        """
        self._executor.shutdown(wait=False, cancel_futures=True)
        while self._taken:
            stop()
            wait(self._taken.copy(), timeout=0.2)
        self._executor.shutdown(wait=True)

    def _free(self, done: Future[Any]) -> None:
        self._taken.discard(done)
        self._places.release()
