"""Rows of a comparison, measured by several processes at once, each with a share of the cores.

A small model uses one core well and several badly: its matrices are too small to be split. So two
rows at once, each on one core, are done sooner than one after the other on both.
"""

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import psutil
import torch

from nasalign.commands.app import begin_worker
from nasalign.commands.job import Job
from nasalign.errors import NasAlignError
from nasalign.models.loading import load
from nasalign.progress import EveryMinute, Progress
from nasalign.rivals.all import RIVALS
from nasalign.rivals.rival import Rival
from nasalign.rivals.row import Measured, RowMeasurement
from nasalign.run import Run
from nasalign.session import Session

MEMORY = 2 << 30
"""Bytes that a process takes beside the weights, which it has three times at most."""


def workers_for(job: Job, measure: RowMeasurement, rows: int) -> int:
    """Return the number of processes that measure rows best.

    One where the model is on an accelerator, or where calls of an endpoint are counted.
    """
    model, settings = measure.session.model, measure.session.settings
    asks_others = any("openai:" in name for name in (settings.judge, settings.generator))
    whole = all(weight.device.type == "cpu" for weight in model.parameters())
    if asks_others or not whole or job.load.quantize:
        return 1
    size = 3 * sum(weight.nbytes for weight in model.parameters()) + MEMORY
    room = psutil.virtual_memory().available // size
    return max(1, min(torch.get_num_threads(), rows, room))


@dataclass(frozen=True)
class _Given:
    """What a process needs to measure rows as this one would.

    The model is not sent but loaded again: code that it brings along is there only then.
    """

    model: str
    load: Mapping[str, Any]
    threads: int
    folder: Path | None
    strict: bool
    measure: RowMeasurement  # its session has no model


def measured_by(
    workers: int, job: Job, measure: RowMeasurement, rivals: Sequence[Rival]
) -> Iterator[Measured]:
    """Measure rows by several processes; yield them as they are done.

    Args:
        workers: number of processes; each has as many of the threads.
        job: what the model is loaded by.
        measure: it has measured the untouched model.
        rivals: rows, of those in ``RIVALS``.

    Raises:
        NasAlignError: a process ended before its row was done.
    """
    run, threads = measure.session.run, max(1, torch.get_num_threads() // workers)
    given = _Given(
        job.model, vars(job.load), threads, run.folder, run.strict, _without_model(measure)
    )
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    said: SimpleQueue[str | None] = context.SimpleQueue()
    # Pickled here: the queues of processes would put every tensor into shared memory.
    own = pickle.dumps(given), said
    with _shown(said, run), ProcessPoolExecutor(workers, context, begin_worker, own) as pool:
        try:
            # What takes longest stands last in the table, and begins first.
            futures = [pool.submit(_measure, one.name) for one in reversed(rivals)]
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as broken:
            raise NasAlignError(
                "A process that measured a row was ended from outside, probably for want of "
                "memory; take --workers 1 and --resume."
            ) from broken
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            children = multiprocessing.active_children()
            for process in children:
                process.terminate()
            for process in children:  # the pool, which was not waited for, leaves them as zombies
                process.join()


def _without_model(measure: RowMeasurement) -> RowMeasurement:
    """A measurement that can be sent to a process."""
    session = measure.session
    bare = Session(None, None, session.settings, Run(), session.fingerprint)
    material = replace(measure.material, session=bare)
    return replace(measure.free_answers_known(), material=material)


@contextmanager
def _shown(said: "SimpleQueue[str | None]", run: Run) -> Iterator[None]:
    """Show the sentences of processes while in the context."""

    def show() -> None:
        while (text := said.get()) is not None:
            run.say(text)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        said.put(None)
        thread.join(timeout=5)  # a process that was ended may hold the queue for ever


class _Sentences:
    """A reporter that sends sentences to the first process, each with the row that it is of."""

    def __init__(self, said: "SimpleQueue[str | None]") -> None:
        self.said, self.row = said, ""

    def say(self, text: str) -> None:
        self.said.put(f"[{self.row}] {text}")

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Progress]:
        yield EveryMinute(self.say, title, total)


_own: dict[str, Any] = {}
"""Of this process, if it measures rows for another: ``measure`` and ``reporter``."""


def begin(pickled: bytes, said: "SimpleQueue[str | None]") -> None:
    """Prepare this process to measure rows for another, which sends what it needs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    given: _Given = pickle.loads(pickled)
    torch.set_num_threads(given.threads)
    model, tokenizer = load(given.model, **given.load)
    reporter = _Sentences(said)
    run = Run(given.folder, reporter=reporter, strict=given.strict)
    session = replace(given.measure.session, model=model, tokenizer=tokenizer, run=run)
    material = replace(given.measure.material, session=session)
    _own.update(measure=replace(given.measure, material=material), reporter=reporter)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(1)


def _measure(name: str) -> Measured:
    """Measure a row in this process."""
    _own["reporter"].row = name
    (rival,) = (one for one in RIVALS if one.name == name)
    found: Measured = _own["measure"].row(rival)
    return found
