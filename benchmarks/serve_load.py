"""What `nasalign serve` answers in a second: 200 requests at once, and one at a time.

    python benchmarks/serve_load.py
    python benchmarks/serve_load.py --adapter runs/demo --transformers --long 8000

Prompts of mixed length go to /v1/chat/completions of the embedded model, which is served by a
process of its own. Each answer at once must be the one of the same request alone. `--transformers`
asks `transformers serve` of the same machine for a token of the same messages. `--long` asks 50
questions about one text of so many tokens by /v1/decisions, in one request.
"""

import argparse
import math
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from common import MIB, finish, machine, parser, require, table
from nasalign.data.records import load_facts
from nasalign.models.embedded import embedded_folder

TOLERANCE = 1e-3  # of a log probability: rounding, not another prompt
INSTRUCTION = "You are given a question and you MUST answer Yes or No."


def messages(requests: int) -> list[list[dict[str, str]]]:
    """Questions with a text of nothing to some hundred tokens before each."""
    facts = load_facts()
    told = [f"{fact.question} {fact.answer}." for fact in facts[:40]]
    return [
        [
            {"role": "system", "content": INSTRUCTION},
            {
                "role": "user",
                "content": f"{' '.join(told[: number % 13])} Question {number}: "
                f"{facts[number % len(facts)].question} Is the answer {facts[-number].answer}?",
            },
        ]
        for number in range(requests)
    ]


@contextmanager
def server(command: Sequence[str], ready: Callable[[str], str | None], seconds: float) -> Iterator:
    """Starts a server, and yields its process and its address once it is ready."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, text=True)
        try:
            address, end = None, time.monotonic() + seconds
            while address is None and process.poll() is None and time.monotonic() < end:
                time.sleep(0.5)
                log.seek(0)
                address = ready(log.read())
            log.seek(0)
            require(address is not None, f"{command[0]} does not start:\n{log.read()[-2000:]}")
            yield process, address
        finally:
            process.kill()
            process.wait()


def nasalign_server(options: argparse.Namespace) -> Any:
    """`nasalign serve` on a free port."""
    command = [sys.executable, "-P", "-m", "nasalign", "serve", options.model, "--port", "0"]
    command += ["--adapter", options.adapter] if options.adapter else []
    command += [] if options.untouched else ["--no-untouched"]

    def ready(log: str) -> str | None:
        found = re.search(r"API is at (http://\S+/v1)", log)
        return found[1] if found else None

    return server(command, ready, 300)


def on_free_port(command: Sequence[str]) -> Any:
    """Starts a server of OpenAI's API that takes ``--host`` and ``--port``, and has /health."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    root = f"http://127.0.0.1:{port}"

    def ready(_: str) -> str | None:
        try:
            httpx.get(f"{root}/health", timeout=5, trust_env=False).raise_for_status()
        except httpx.HTTPError:  # also while it loads the model
            return None
        return f"{root}/v1"

    return server([*command, "--host", "127.0.0.1", "--port", str(port)], ready, 300)


def transformers_server(folder: Path) -> Any:
    """`transformers serve` of a model's folder."""
    script = Path(sys.executable).with_name("transformers")
    return on_free_port([str(script), "serve", str(folder)])


def run(ask: Callable[[int], Any], requests: int, at_once: int) -> tuple[float, list[Any]]:
    """Asks all, so many at once; returns the seconds and the answers in order."""
    gate = threading.Barrier(at_once + 1)

    def waiting(number: int) -> Any:
        if number < at_once:
            gate.wait()
        return ask(number)

    with ThreadPoolExecutor(at_once) as crowd:
        found = [crowd.submit(waiting, number) for number in range(requests)]
        gate.wait()
        start = time.perf_counter()
        answers = [one.result() for one in found]
        return time.perf_counter() - start, answers


def rates(address: str, model: str, requests: int, alone: int, **more: Any) -> dict[str, Any]:
    """Requests a second alone and at once, and what was answered."""
    asked, timeout = messages(requests), httpx.Timeout(3600)
    limits = httpx.Limits(max_connections=None)
    with httpx.Client(trust_env=False, timeout=timeout, limits=limits) as client:

        def ask(number: int) -> Any:
            body = {"model": model, "messages": asked[number], **more}
            response = client.post(f"{address}/chat/completions", json=body)
            response.raise_for_status()
            return response.json()

        ask(0)  # the first request also fills caches
        seconds_alone, answers_alone = run(ask, alone, 1)
        seconds, answers = run(ask, requests, requests)
    return {
        "alone": alone / seconds_alone,
        "at_once": requests / seconds,
        "times": requests / seconds / (alone / seconds_alone),
        "answers": answers,
        "answers_alone": answers_alone,
    }


def words(answer: dict[str, Any]) -> dict[str, float]:
    """The log probability of each word."""
    (token,) = answer["choices"][0]["logprobs"]["content"]
    return {one["token"]: one["logprob"] for one in token["top_logprobs"]}


def mixed_up(found: dict[str, Any]) -> int:
    """Answers at once that are not those of the same request alone."""
    pairs = zip(found["answers"], found["answers_alone"], strict=False)
    return sum(
        any(abs(words(one)[word] - value) > TOLERANCE for word, value in words(other).items())
        for one, other in pairs
    )


def long_input(address: str, model: str, process: Any, tokens: int) -> dict[str, Any]:
    """50 questions about one long text, and the peak of the server's memory."""
    sentence = "The harbour was closed for repairs in the spring of that year. "  # 13 tokens
    questions = [
        {"type": "predicate", "instructions": f"Was the harbour closed in year {number}?"}
        for number in range(50)
    ]
    body = {"model": model, "input": sentence * (tokens // 13), "questions": questions}
    before, peak, done = psutil.Process(process.pid).memory_info().rss, [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            peak[0] = max(peak[0], psutil.Process(process.pid).memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    response = httpx.post(f"{address}/decisions", json=body, timeout=3600, trust_env=False)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    require(response.status_code == 200, response.text)
    answers = response.json()["answers"]
    require(all(math.isfinite(one["probability"]) for one in answers), "not finite")
    return {
        "questions": len(answers),
        "tokens_a_prompt": response.json()["usage"]["input_tokens"] // len(answers),
        "seconds": seconds,
        "memory_before_mib": before / MIB,
        "memory_peak_mib": peak[0] / MIB,
    }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", default="smollm2-135m")
    options.add_argument("--adapter", help="serve the corrected model of this run")
    options.add_argument("--untouched", action="store_true", help="ask the untouched model too")
    options.add_argument("--requests", type=int, default=200)
    options.add_argument("--alone", type=int, default=200, help="requests one at a time")
    options.add_argument("--transformers", action="store_true", help="beside `transformers serve`")
    options.add_argument("--long", type=int, default=0, metavar="TOKENS")
    given = options.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    result: dict[str, Any] = {"machine": machine("cpu"), "requests": given.requests}
    rows = []
    with nasalign_server(given) as (process, address):
        name = httpx.get(f"{address}/models", trust_env=False).json()["data"][0]["id"]
        more = {"logprobs": True, "top_logprobs": 2}
        found = rates(address, name, given.requests, min(given.alone, given.requests), **more)
        distinct = len({tuple(words(one).values()) for one in found["answers"]})
        result |= {
            "lost": given.requests - len(found["answers"]),
            "mixed_up": mixed_up(found),
            "distinct": distinct,
            "nasalign": {one: found[one] for one in ("alone", "at_once", "times")},
        }
        rows.append(["`nasalign serve`", *(f"{result['nasalign'][k]:.2f}" for k in KEYS)])
        if given.long:
            result["long"] = long_input(address, name, process, given.long)
    if given.transformers:
        folder = embedded_folder(given.model)
        with transformers_server(folder) as (_, address):
            name = str(folder)
            alone = min(given.alone, given.requests)
            found = rates(address, name, given.requests, alone, max_tokens=1, temperature=0)
            result["transformers"] = {one: found[one] for one in ("alone", "at_once", "times")}
            rows.append(["`transformers serve`", *(f"{found[k]:.2f}" for k in KEYS)])
    lines = table(["server", "alone, a second", "at once, a second", "times"], rows)
    lines.append(f"{result['lost']} lost, {result['mixed_up']} mixed up, {distinct} distinct")
    if given.long:
        lines.append(
            "{questions} questions on {tokens_a_prompt:,} tokens: {seconds:.1f} s; memory "
            "{memory_before_mib:,.0f} MiB before, {memory_peak_mib:,.0f} at most".format(
                **result["long"]
            )
        )
    finish(result, lines, given.json)


KEYS = ("alone", "at_once", "times")

if __name__ == "__main__":
    main()
