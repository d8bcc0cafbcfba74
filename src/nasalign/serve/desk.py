"""One thread that asks the model, and a bounded queue of those who wait for it."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import TypeVar

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
        future.add_done_callback(lambda done: self._places.release())
        return future

    def close(self) -> None:
        """Cancels what waits, and returns when what is under way is done."""
        self._executor.shutdown(wait=True, cancel_futures=True)
