"""The page as it is served: a real server on a free port, in a thread or as a program."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import httpx

from nasalign.adapters.scaling import PlattScaling
from nasalign.commands.ask import open_both
from nasalign.commands.job import Job
from nasalign.data.records import BinaryExample
from nasalign.evaluation.both_models import BothModels
from nasalign.serve.addresses import listen
from nasalign.serve.answer_queue import AnswerQueue
from nasalign.serve.served_model import ServedModel
from nasalign.serve.server import make_server


def opened(folders: tuple[Path, Path]) -> BothModels:
    """Opens a model and its adapter."""
    return open_both(Job(model=str(folders[0]), adapter=folders[1]))


class Slow:
    """In place of both models: answers when it may, and notes what it was asked."""

    adapter, model, words = None, None, ("Yes", "No")
    columns = ("question", "answer", "context")

    def __init__(self) -> None:
        self.asked: Queue[str] = Queue()
        self.done: list[str] = []
        self.may_end = threading.Event()

    def example(self, values: Mapping[str, str | None]) -> BinaryExample:
        return BinaryExample(values["question"] or "", True)

    def ask(self, example: BinaryExample) -> dict[str, Any]:
        self.asked.put(example.question)
        assert self.may_end.wait(60)
        self.done.append(example.question)
        return {"untouched": {"heads": [], "said": example.question}}

    def look(self, example: BinaryExample, heads: object) -> dict[str, Any]:
        return {}


@contextmanager
def serving(
    models: BothModels,
    queue: AnswerQueue | None = None,
    calibration: PlattScaling | None = None,
    compare: bool = True,
) -> Iterator[str]:
    """Serves the page and the API, and yields its URL without a slash."""
    queue = queue or AnswerQueue()
    with listen("127.0.0.1", 0) as listener:
        served = ServedModel(models, "tiny", calibration, compare)
        server = make_server(served, queue, "127.0.0.1")
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)
            queue.close()
    assert not thread.is_alive()


@contextmanager
def started(model: Path, adapter: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Starts the command, and yields its process and the URL that it prints."""
    command = [sys.executable, "-P", "-m", "nasalign", "serve", str(model), "--port", "0"]
    process = subprocess.Popen(
        [*command, "--adapter", str(adapter)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"COLUMNS": "200", "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        url = None
        while url is None and (line := process.stdout.readline()):
            url = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert url is not None
        yield process, url[0]
    finally:
        process.kill()


def post(url: str, asked: dict, **more: object) -> httpx.Response:
    """Asks a question as a program does."""
    return httpx.post(f"{url}/api/ask", json=asked, timeout=60, trust_env=False, **more)
