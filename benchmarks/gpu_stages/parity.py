"""The tests of ``tests/gpu`` on this device; a record a test, with the figures that it notes."""

import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpu_stages.stage import Place, Record

ROOT = Path(__file__).parents[2]


class Reports:
    """A pytest plugin that hands on the outcome of each test."""

    def __init__(self, records: "queue.Queue[Record | None]") -> None:
        self.records = records

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Notes a test when it has run, or why it did not."""
        if report.when != "call" and report.outcome == "passed":
            return
        record: Record = {"test": report.nodeid.rpartition("/")[2], "outcome": report.outcome}
        record["seconds"] = report.duration
        record |= dict(report.user_properties)
        if report.failed:
            record["failure"] = str(report.longrepr)[-4000:]
        elif report.skipped:
            record["reason"] = str(report.longrepr)[-400:]
        self.records.put(record)


def run(place: Place) -> Iterator[Record]:
    """Yields a record a test, and last how many passed, failed and were skipped."""
    records: queue.Queue[Record | None] = queue.Queue()
    arguments = [
        str(ROOT / "tests" / "gpu"),
        "-q",
        "--rootdir",
        str(ROOT),
        "-p",
        "no:cacheprovider",
    ]
    # On a CPU the suite runs these tests anyway: one family is enough to try the stage.
    arguments += ["-m", "gpu"] if place.on_cuda else ["-k", "llama and cpu"]

    def work() -> None:
        try:
            pytest.main(arguments, plugins=[Reports(records)])
        finally:
            records.put(None)

    threading.Thread(target=work, daemon=True).start()
    counts: dict[str, int] = {}
    while (record := records.get()) is not None:
        counts[record["outcome"]] = counts.get(record["outcome"], 0) + 1
        yield record
    yield {"part": "summary", **counts}
