"""One thread that asks the model, and a bounded queue of requests that wait for it."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Any, TypeVar

from nasalign.inference.batches import CPU_TOKENS
from nasalign.inference.prefix_groups import TokenTree
from nasalign.prompts.builder import BinaryPrompt

PLACES = 1024
"""Prompts that may wait for the model at once, those being answered included."""
ROUND_BATCHES = 4
"""Batches of prompts that are answered in a round, before anything else has its turn."""
T = TypeVar("T")
Answers = Callable[[Sequence[BinaryPrompt]], Sequence[Any]]
"""Answers prompts, in their order."""


class QueueFullError(Exception):
    """Too many places of the queue are taken, or it is closed."""


@dataclass
class _Task:
    """What waits: some work that is done alone, or prompts that are answered with others."""

    work: Callable[[], Any]  # does it, or makes the prompts
    answer: Answers | None  # None for work that is done alone
    places: int
    future: Future[Any] = field(default_factory=Future)


class AnswerQueue:
    """Runs tasks in a thread of its own, prompts that wait together in a round.

    Args:
        places: places that tasks may have at once, while they wait or run.
        tokens: tokens of a round, what prompts share counted once; one task is taken even if it
            has more.
    """

    def __init__(self, places: int = PLACES, tokens: int = ROUND_BATCHES * CPU_TOKENS) -> None:
        self._places, self._tokens = places, tokens
        self._waiting: deque[_Task] = deque()
        self._taken: set[Future[Any]] = set()
        self._changed = Condition()
        self._closed = False
        self._thread = Thread(target=self._run, name="nasalign-model", daemon=True)
        self._thread.start()

    def add(self, work: Callable[[], T]) -> Future[T]:
        """Queue a task, or raise QueueFullError; one cancelled before its turn is never run."""
        return self._add(_Task(work, None, 1))

    def add_prompts(
        self, make: Callable[[], Sequence[BinaryPrompt]], answer: Answers, places: int = 1
    ) -> Future[list[Any]]:
        """Queue prompts, which are answered together with others that wait.

        Args:
            make: makes them, in the thread of the model; what it raises is the result.
            answer: answers prompts in their order; those of tasks with an equal one are answered
                together. Where it fails, it is called for each task alone.
            places: places that the task takes, such as one a prompt.

        Raises:
            QueueFullError: there are fewer places.
        """
        return self._add(_Task(make, answer, places))

    def close(self, stop: Callable[[], None] = lambda: None) -> None:
        """Cancel what waits, and call ``stop`` repeatedly until the running task has ended."""
        with self._changed:
            self._closed = True
            waiting = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for task in waiting:
            task.future.cancel()
        while self._thread.is_alive() and self._taken:
            stop()
            wait(self._taken.copy(), timeout=0.2)
        self._thread.join()

    def _add(self, task: _Task) -> Future[Any]:
        with self._changed:
            if self._closed or task.places > self._places:
                raise QueueFullError
            self._places -= task.places
            self._taken.add(task.future)
            self._waiting.append(task)
            self._changed.notify_all()

        def free(done: Future[Any]) -> None:
            with self._changed:
                self._taken.discard(done)
                self._places += task.places

        task.future.add_done_callback(free)
        return task.future

    def _run(self) -> None:
        """Do what waits, until the queue is closed."""
        while task := self._next():
            if task.answer is None:
                _do(task.work, task.future)
            else:
                _answer(self._round(task), task.answer)

    def _next(self) -> _Task | None:
        """Wait for the next task that nobody has cancelled; None if the queue is closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return None
                task = self._waiting.popleft()
            if task.future.set_running_or_notify_cancel():
                return task

    def _round(self, first: _Task) -> list[tuple[_Task, list[BinaryPrompt]]]:
        """Return a task that has begun and others that wait, with their prompts."""
        found, tree = [], TokenTree()
        task: _Task | None = first
        while task is not None:
            try:
                prompts = list(task.work())
            except Exception as error:  # of this request alone
                task.future.set_exception(error)
            else:
                found.append((task, prompts))
                tree.add(prompts)
            task = self._alike(first) if tree.tokens < self._tokens else None
        return found

    def _alike(self, first: _Task) -> _Task | None:
        """Take the next task whose prompts can be answered with those of another."""
        with self._changed:
            alike = [task for task in self._waiting if task.answer == first.answer]
            for task in alike:
                self._waiting.remove(task)
                if task.future.set_running_or_notify_cancel():
                    return task
        return None


def _answer(tasks: list[tuple[_Task, list[BinaryPrompt]]], answer: Answers) -> None:
    """Answer the prompts of several tasks at once, or of each alone where that fails."""
    prompts = [prompt for _, own in tasks for prompt in own]
    alone: Future[Any] = tasks[0][0].future if len(tasks) == 1 else Future()
    _do(lambda: list(answer(prompts)), alone)
    if len(tasks) <= 1:
        return
    if alone.exception() is not None:
        del alone  # its error may hold memory
        for task in tasks:
            _answer([task], answer)
        return
    results = iter(alone.result())
    for one, own in tasks:
        one.future.set_result([next(results) for _ in own])


def _do(work: Callable[[], Any], future: Future[Any]) -> None:
    """Do some work and give its result, or its error, to a future that runs."""
    try:
        result = work()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
