"""Tables 13 and 15: what the product sends to a language model, on a loopback server."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from paper_literal import paper_text
from paper_literal.findings import Findings, Triple
from paper_literal.produced import nasalign
from paper_literal.prompts import FILES, contexts, upstream

QUESTION = "Can Hannah visit four cities in country Y?"
"""What the server answers: a question, which serves as a wrong answer too."""


@contextmanager
def listening() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yields the URL of a server, and the system and user messages that it was sent."""
    seen: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            messages = {one["role"]: one["content"] for one in body["messages"]}
            seen.append((messages.get("system", ""), messages["user"]))
            said = "yes" if "same meaning" in seen[-1][0] else QUESTION
            message = {"role": "assistant", "content": said}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            reply = json.dumps(
                {"id": "c", "object": "chat.completion", "created": 0, "model": "m"}
                | {"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
            ).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *arguments: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", seen
    finally:
        server.shutdown()


def check(paper: Path, data: Path, model: str, folder: Path, findings: Findings) -> None:
    """Compares the messages with the printed ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, heading in (
        ("musique", "Wrong Label Generation (MuSiQue, GSM8K, and MATH)"),
        ("gsm8k", "Wrong Label Generation (MuSiQue, GSM8K, and MATH)"),
        ("ar-lsat", "Positive / Negative Question Generation (AR-LSAT)"),
    ):
        printed = paper_text.conversation(paper, heading)
        sources = [part for file in FILES[name] for part in ("--source", str(data / file))]
        with listening() as (url, seen):
            nasalign(
                *("data", name, *sources, "--generator", "openai:gpt-4", "--limit", "6"),
                *("--set", "sides=both", "--overwrite", "--out", str(folder / f"{name}.jsonl")),
                OPENAI_BASE_URL=url,
                OPENAI_API_KEY="none",
                NASALIGN_CACHE=str(folder / "cache"),
            )
        _compare("Table 13", name, printed, seen, data, findings)
    _judge(paper, data, model, folder, findings)


def _judge(paper: Path, data: Path, model: str, folder: Path, findings: Findings) -> None:
    source = str(data / FILES["gsm8k"][0])
    with listening() as (url, seen):
        nasalign(
            *("evaluate", model, "--data", "gsm8k", "--source", source, "--knowledge"),
            *("--judge", "openai:gpt-4", "--limit", "2", "--set", "bootstrap_samples=10"),
            *("--set", "answer_tokens=8"),
            OPENAI_BASE_URL=url,
            OPENAI_API_KEY="none",
            NASALIGN_CACHE=str(folder / "cache"),
        )
    printed = paper_text.conversation(paper, "Table 15:")
    _compare("Table 15", "gsm8k", printed, seen, data, findings)


def _compare(
    item: str,
    name: str,
    printed: tuple[str, str],
    seen: list[tuple[str, str]],
    data: Path,
    findings: Findings,
) -> None:
    """Compares messages with the printed ones, a line of which has a placeholder each."""
    triples: list[Triple] = [("messages were sent", bool(seen), True)]
    form = [line.partition(":")[0] for line in printed[1].splitlines()]
    asked = {" ".join(one.split()) for one in _questions(data, name)}
    for system, user in seen:
        triples.append(("system", system, printed[0]))
        lines = re.findall(rf"^({'|'.join(map(re.escape, form))}):", user, re.MULTILINE)
        wanted = [one for one in form if one != "Context" or name in ("musique", "ar-lsat")]
        triples.append((f"lines of {user[:60]!r}", list(dict.fromkeys(lines)), wanted))
        question = re.search(r"^Question: (.*?)\n(?:Context|Answer|Prediction):", user, re.M | re.S)
        text = " ".join(question[1].split()) if question else ""
        triples.append((f"question {text[:60]!r}", text in asked, True))
        context = re.search(r"^Context: (.*?)\n(?:Question|Answer):", user, re.M | re.S)
        if context:
            known = set(contexts(data, name, True).values()) | set(
                contexts(data, name, False).values()
            )
            triples.append(("context", context[1] in known, True))
    findings.same(item, f"{name}: messages to the language model against the print", triples)


def _questions(data: Path, name: str) -> Iterator[str]:
    for row in upstream(data, name):
        if name == "ar-lsat":
            yield from (question["question"] for question in row["questions"])
        else:
            yield row["question"]
