"""What much costs: peak memory of 10,000 and 100,000 rows, and 50 calls of an endpoint at once.

    python benchmarks/load.py --rows 10000 100000

Each count of rows runs in a process of its own: ``nasalign data`` on short questions, and
``nasalign evaluate`` of a tiny model that is saved to disk, on one thread. The endpoint is a server
on loopback that answers some calls with 429 and 500 first.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from common import finish, machine, parser, table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

MIB = 2**20
CALLS, AT_ONCE = 500, 50


def write_questions(path: Path, rows: int) -> None:
    """Short questions with a right and a wrong answer, each about a subject of its own."""
    with path.open("w") as file:
        for number in range(rows):
            row = {"question": f"Is it {number}?", "answer": "a", "wrong_answer": "the"}
            file.write(json.dumps(row) + "\n")


def measured(*arguments: object) -> dict[str, Any]:
    """Runs a command of nasalign, and returns its seconds, its peak memory and its result."""
    code = (
        "import json, resource, sys\n"
        "from nasalign.commands import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n"
        "    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "    print(json.dumps({'exit': end.code or 0, 'peak': peak}), file=sys.stderr)\n"
    )
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *map(str, arguments), "--json"],
        env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    last = json.loads(done.stderr.strip().splitlines()[-1])
    if last["exit"] != 0:
        raise SystemExit(done.stderr)
    return {
        "seconds": round(seconds, 1),
        "peak_mib": round(last["peak"] / 1024, 1),
        "result": json.loads(done.stdout.strip().splitlines()[-1]),
    }


def many_rows(counts: list[int]) -> list[dict[str, Any]]:
    """Memory and time of the two commands for each count of rows."""
    import tiny

    found = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tiny.build_model("llama", layers=2).save_pretrained(folder / "model")
        tiny.build_tokenizer(chat_template=False).save_pretrained(folder / "model")
        for rows in counts:
            source, made = folder / f"{rows}.jsonl", folder / f"{rows}-rows.jsonl"
            write_questions(source, rows)
            written = measured("data", source, "--out", made)
            lines = sum(1 for _ in made.open())
            found.append({"command": "data", "rows": rows, "came out": lines} | _figures(written))
            out = folder / f"run-{rows}"
            evaluated = measured(
                *("evaluate", folder / "model", "--data", made, "--split", "all", "--out", out),
                *("--limit", rows, "--device", "cpu", "--set", "bootstrap_samples=100"),
            )
            lines = sum(1 for _ in next((out / "eval").glob("*.jsonl")).open())
            found.append(
                {"command": "evaluate", "rows": rows, "came out": lines} | _figures(evaluated)
            )
    return found


def _figures(measurement: dict[str, Any]) -> dict[str, Any]:
    return {name: measurement[name] for name in ("seconds", "peak_mib")}


def many_calls() -> dict[str, Any]:
    """Asks much at once of an endpoint that fails now and then; says what came of it."""
    from fake_endpoint import completion, serving
    from nasalign.data.conversation import Conversation
    from nasalign.data.endpoint import EndpointChat

    tries: Counter[str] = Counter()
    lock = threading.Lock()

    def reply(request: dict[str, Any]) -> tuple[int, Any]:
        asked = request["messages"][1]["content"]
        with lock:
            tries[asked] += 1
            first = tries[asked] == 1
        number = int(asked.split()[1])
        time.sleep(1.0)  # long enough for all to be under way
        if first and number % 10 == 0:
            return (429 if number % 20 else 500), {"error": {"message": "later"}}
        return completion(f"yes {number}")

    conversations = [Conversation("Judge.", f"Number {number} ?") for number in range(CALLS)]
    with serving() as fake, tempfile.TemporaryDirectory() as scratch:
        fake.reply = reply
        os.environ |= {"OPENAI_BASE_URL": fake.url, "OPENAI_API_KEY": "none"}
        cache = Path(scratch) / "answers.sqlite"
        chat = EndpointChat("judge", cache, concurrency=AT_ONCE)
        start = time.perf_counter()
        answers = chat.complete([*conversations, *conversations])  # each twice
        seconds = time.perf_counter() - start
        again = EndpointChat("judge", cache, concurrency=AT_ONCE)
        repeated = again.complete(conversations)
        right = [f"yes {number}" for number in range(CALLS)]
        return {
            "conversations": CALLS,
            "calls": len(fake.asked),
            "answered once": sum(count == 1 for count in tries.values()),
            "tried again": sum(count == 2 for count in tries.values()),
            "more often": sum(count > 2 for count in tries.values()),
            "most at once": fake.busiest,
            "lost or wrong": sum(one != two for one, two in zip(answers, right * 2, strict=True)),
            "from the cache afterwards": again.usage.cached,
            "wrong from the cache": sum(
                one != two for one, two in zip(repeated, right, strict=True)
            ),
            "paid for": chat.usage.calls,
            "seconds": round(seconds, 2),
        }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000])
    asked = options.parse_args()
    rows, calls = many_rows(asked.rows), many_calls()
    names = ["command", "rows", "came out", "seconds", "peak_mib"]
    lines = table(names, [[one[name] for name in names] for one in rows])
    lines += ["", *table(["an endpoint under load", ""], list(map(list, calls.items())))]
    own = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    result = {"machine": machine("cpu"), "rows": rows, "calls": calls, "own_peak_mib": own}
    finish(result, lines, asked.json)


if __name__ == "__main__":
    main()
