"""The recipes: a model in other servers and tools gives the verdicts that it gives here."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

import nasalign
import tiny
from nasalign.data.records import BinaryExample
from nasalign.prompts.prompt_one import prompt_1
from served_page import opened, serving
from tiny_pair import make_pair

EXAMPLES = [
    BinaryExample(f"What is the capital of {land}?", label, city)
    for land, city, label in (
        ("France", "Paris", True),
        ("Japan", "Tokyo", True),
        ("Spain", "Rome", False),
        ("Italy", "London", False),
    )
]
TOKENS = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("tiny") / "model", seed=1)


@pytest.fixture(scope="module")
def answers(folder: Path) -> list[str]:
    """What the model answers here."""
    model, tokenizer = nasalign.load(folder, device="cpu")
    scores = nasalign.score(model, tokenizer, EXAMPLES, decoder="generate", record=False)
    assert scores.answers is not None
    return scores.answers


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of ``transformers serve``."""
    pytest.importorskip("fastapi", reason="the extra serving of transformers is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "import sys; from transformers.cli.transformers import main; sys.exit(main())"
    words = ["serve", str(folder), "--device", "cpu", "--port", str(port), "--host", "127.0.0.1"]
    log = (tmp_path_factory.mktemp("server") / "log").open("w+")
    running = subprocess.Popen(
        [sys.executable, "-P", "-c", code, *words],
        stdout=log,
        stderr=log,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urlopen(f"{address}/health").read()
                break
            except (URLError, OSError):
                assert running.poll() is None, Path(log.name).read_text()
                time.sleep(0.5)
        yield address
    finally:
        running.terminate()
        running.wait()


@pytest.mark.long
def test_transformers_serve_answers_as_we_do(server: str, folder: Path, answers: list[str]) -> None:
    openai = pytest.importorskip("openai", reason="openai is not installed")
    client = openai.OpenAI(base_url=f"{server}/v1", api_key="none")
    for example, ours in zip(EXAMPLES, answers, strict=True):
        said = client.chat.completions.create(
            model=str(folder),
            messages=[{"role": "user", "content": prompt_1(example)}],
            temperature=0,
            max_tokens=TOKENS,
        )
        assert said.choices[0].message.content.strip() == ours.strip()


@pytest.mark.long
def test_transformers_serve_has_no_log_probabilities(server: str, folder: Path) -> None:
    """The page says so; where it has them one day, the recipe can ask for probabilities."""
    body = {
        "model": str(folder),
        "messages": [{"role": "user", "content": "Is it?"}],
        "logprobs": True,
    }
    header = {"Content-Type": "application/json"}
    request = Request(f"{server}/v1/chat/completions", json.dumps(body).encode(), header)
    [choice] = json.loads(urlopen(request).read())["choices"]
    assert choice["message"]["content"]
    assert choice.get("logprobs") is None


@pytest.mark.long
def test_inspect_scores_as_we_do(
    folder: Path, answers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspect = pytest.importorskip("inspect_ai", reason="inspect_ai is not installed")
    from inspect_ai.dataset import Sample
    from inspect_ai.scorer import match
    from inspect_ai.solver import generate

    monkeypatch.chdir(tmp_path)
    # inspect_ai has the tokenizer add its special tokens to the template's, which has them already.
    own = shutil.copytree(folder, tmp_path / "own")
    content = json.loads((own / "tokenizer.json").read_text()) | {"post_processor": None}
    (own / "tokenizer.json").write_text(json.dumps(content))
    words = {True: "Yes", False: "No"}
    samples = [Sample(prompt_1(one), target=words[one.known_label]) for one in EXAMPLES]
    task = inspect.Task(dataset=samples, solver=generate(), scorer=match(location="begin"))
    [log] = inspect.eval(
        task,
        model="hf/tiny",
        model_args={
            "model_path": str(folder),
            "tokenizer_path": str(own),
            "device": "cpu",
            "do_sample": False,
        },
        max_tokens=TOKENS,
        log_dir=str(tmp_path / "logs"),
        display="none",
    )
    assert log.status == "success", log.error
    found = [one.output.completion.strip() for one in log.samples]
    assert found == [one.strip() for one in answers]
    right = [
        answer.strip().lower().startswith(words[one.known_label].lower())
        for one, answer in zip(EXAMPLES, answers, strict=True)
    ]
    assert log.results.scores[0].metrics["accuracy"].value == sum(right) / len(right)


def recipe(place: str, address: str) -> str:
    """A block of the page below a line, for another server and its model."""
    page = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text(encoding="utf-8")
    block = re.search(rf"{re.escape(place)}.*?```\w+[^\n]*\n(.*?)```", page, re.DOTALL)
    assert block
    text = block[1].replace("http://127.0.0.1:8000", address)
    assert address in text
    return text.replace("smollm2-135m", "tiny")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `nasalign serve` with an adapter."""
    with serving(opened(make_pair(tmp_path_factory.mktemp("pair")))) as address:
        yield address


def probability(address: str, question: str, answer: str) -> float:
    """What the API says to Prompt I."""
    asked = prompt_1(BinaryExample(question, True, answer))
    body = {"model": "tiny", "messages": [{"role": "user", "content": asked}]}
    header = {"Content-Type": "application/json"}
    request = Request(f"{address}/v1/chat/completions", json.dumps(body).encode(), header)
    return float(json.loads(urlopen(request).read())["nasalign"]["probability"])


@pytest.mark.long
def test_promptfoo_judges_by_our_probability(api: str, tmp_path: Path) -> None:
    program = shutil.which("promptfoo")
    if not program:
        pytest.skip("promptfoo is not installed (npm install promptfoo)")
    (tmp_path / "promptfooconfig.yaml").write_text(recipe("## promptfoo", api))
    (tmp_path / "judge.py").write_text(recipe("promptfoo calls it", api))
    told = {
        "PROMPTFOO_PYTHON": sys.executable,
        "PROMPTFOO_CONFIG_DIR": str(tmp_path / "own"),
        "PROMPTFOO_DISABLE_TELEMETRY": "1",
        "PROMPTFOO_DISABLE_UPDATE": "1",
        "PROMPTFOO_DISABLE_REMOTE_GENERATION": "1",
    }
    done = subprocess.run(
        [program, "eval", "--no-cache", "--output", "out.json"],
        cwd=tmp_path,
        env=os.environ | told,
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 100), done.stdout + done.stderr  # 100: an answer was judged wrong
    [found] = json.loads((tmp_path / "out.json").read_text())["results"]["results"]
    question = found["vars"]["question"]
    said = found["response"]["output"]
    assert said in ("Yes", "No")
    expected = probability(api, question, said)
    assert found["score"] == pytest.approx(expected, abs=1e-4)
    assert found["success"] is (expected > 0.5)
    assert done.returncode == (0 if found["success"] else 100)


@pytest.mark.long
def test_deepeval_measures_our_probability(api: str) -> None:
    pytest.importorskip("deepeval", reason="deepeval is not installed")
    names: dict[str, object] = {}
    exec(recipe("## DeepEval", api), names)
    metric = names["metric"]
    expected = probability(api, "What is the capital of France?", "Paris")
    assert metric.score == pytest.approx(expected, abs=1e-4)  # type: ignore[attr-defined]
    assert metric.is_successful() is (expected > 0.5)  # type: ignore[attr-defined]
