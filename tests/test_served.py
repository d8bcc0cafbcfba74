"""Judge and generator against a real OpenAI-compatible server with the embedded model."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import upstream
from fault_tools import start_python
from nasalign.models.embedded import embedded_folder

pytestmark = [pytest.mark.slow, pytest.mark.long]

MODEL = "smollm2-135m"


@dataclass
class Served:
    """A running server."""

    url: str
    model: str
    log: Path

    @property
    def requests(self) -> int:
        return self.log.read_text().count("[Request received]")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """``transformers serve`` on a free port of loopback."""
    folder = str(embedded_folder(MODEL))
    log = tmp_path_factory.mktemp("serve") / "server.log"
    command = [sys.executable, "-P", "-m", "transformers.cli.transformers", "serve", folder]
    command += ["--host", "127.0.0.1", "--port", "0", "--device", "cpu", "--dtype", "float32"]
    with log.open("wb") as out:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
    try:
        deadline = time.monotonic() + 180
        while not (found := re.search(r"running on (http://[\d.:]+)", log.read_text())):
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"transformers serve did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.1)
        yield Served(f"{found[1]}/v1", folder, log)
    finally:
        server.terminate()
        try:
            server.wait(20)  # it waits for what is under way
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def nasalign(*arguments: object, cache: Path, url: str) -> subprocess.Popen[str]:
    places = {"OPENAI_BASE_URL": url, "NASALIGN_CACHE": str(cache)}
    return start_python("-m", "nasalign", *arguments, **places)


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def kept(cache: Path) -> int:
    path = cache / "answers.sqlite"
    if not path.exists():
        return 0
    with sqlite3.connect(path) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
        if not tables:  # the file is there before its table
            return 0
        return int(connection.execute("SELECT COUNT(*) FROM answers").fetchone()[0])


def test_a_killed_run_sends_only_the_calls_that_are_missing(served: Served, tmp_path: Path) -> None:
    source = upstream.write(tmp_path, "gsm8k-rephrased")
    out, cache = tmp_path / "rows.jsonl", tmp_path / "cache"
    command = ["data", "gsm8k-rephrased", "--source", source, "--out", out, "--set", "sides=both"]
    command += ["--set", "concurrency=2", "--generator", f"openai:{served.model}"]
    before = served.requests
    process = nasalign(*command, cache=cache, url=served.url)
    while kept(cache) < 5:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    survived, total = kept(cache), 23
    assert 5 <= survived < total
    assert not out.exists()
    time.sleep(1)  # what was on its way when it was killed
    first = served.requests - before
    assert survived <= first <= survived + 2  # two calls are under way at once

    said = finish(nasalign(*command, cache=cache, url=served.url))
    assert served.requests - before - first == total - survived
    assert f"{total - survived} calls, {survived} answers from the cache" in " ".join(said.split())
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    dropped = sum(map(int, re.findall(r"Left out: (\d+) \(the generator", said)))
    assert len(rows) == 2 * (total - dropped) > 0
    assert sum(row["label"] for row in rows) == len(rows) // 2

    finish(nasalign(*command, "--overwrite", cache=cache, url=served.url))
    assert served.requests - before == first + total - survived  # nothing is asked again


def test_the_served_model_judges_what_it_answers(served: Served, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    folder = tmp_path / "run"
    command = ["evaluate", served.model, "--data", "facts", "--limit", 12, "--knowledge"]
    command += ["--judge", f"openai:{served.model}", "--out", folder, "--set", "answer_tokens=12"]
    before = served.requests
    said = " ".join(finish(nasalign(*command, cache=cache, url=served.url)).split())
    assert served.requests - before == kept(cache) == 12
    assert "12 calls, 0 answers from the cache" in said
    facts = json.loads((folder / "run.json").read_text())
    assert facts["judged"]["by"] == f"openai:{served.model}"
    rows = [
        json.loads(line)
        for line in (folder / "eval" / "facts.before.jsonl").read_text().splitlines()
    ]
    unclear = sum(row["knowledge"] == "unclear" for row in rows)
    assert unclear <= 2 * facts["judged"]["unclear"]
    assert {row["knowledge"] for row in rows} <= {"Det-T", "Det-F", "Non-Det", "unclear"}
