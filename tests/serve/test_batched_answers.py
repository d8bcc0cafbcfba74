"""Requests that wait are answered together: none lost, none mixed up, as if each were alone."""

import hashlib
import json
import math
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from nasalign.prompts.builder import BinaryPrompt
from nasalign.serve.answer_queue import AnswerQueue, QueueFullError
from nasalign.serve.served_model import PromptAnswer, ServedModel
from served_page import opened, post, serving, started

REQUESTS = 200
TIMEOUT = 60


def content(number: int) -> str:
    """A question of its own, of mixed length."""
    return f"Is {number} more than {number % 7}? " + "Think of the rest. " * (number % 11)


def asked(url: str, number: int, model: str = "tiny") -> httpx.Response:
    message = {"role": "user", "content": content(number)}
    body = {"model": model, "messages": [message], "logprobs": True, "top_logprobs": 2}
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=300, trust_env=False)


def said(response: httpx.Response) -> dict[str, float]:
    assert response.status_code == 200, response.text
    (token,) = response.json()["choices"][0]["logprobs"]["content"]
    return {one["token"]: one["logprob"] for one in token["top_logprobs"]}


def test_two_hundred_at_once_are_answered_as_each_alone(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds, answer = [], ServedModel.answer

    def counted(self: ServedModel, prompts: Sequence[BinaryPrompt]) -> list[PromptAnswer]:
        rounds.append(len(prompts))
        return answer(self, prompts)

    monkeypatch.setattr(ServedModel, "answer", counted)
    gate = threading.Barrier(REQUESTS)

    def ask(number: int) -> httpx.Response:
        gate.wait(TIMEOUT)
        return asked(url, number)

    with serving(opened(folders)) as url, ThreadPoolExecutor(REQUESTS) as crowd:
        found = [said(response) for response in crowd.map(ask, range(REQUESTS))]
    assert sum(rounds) == REQUESTS
    assert len(rounds) < REQUESTS / 4

    served = ServedModel(opened(folders), "tiny")
    for number, one in enumerate(found):
        (alone,) = answer(served, [served.conversation([("user", content(number))])])
        words = {"Yes": alone.own.positive, "No": alone.own.negative}
        expected = {word: math.log(probability) for word, probability in words.items()}
        assert one == pytest.approx(expected, abs=1e-4)
    assert len({tuple(one.values()) for one in found}) == REQUESTS


def test_the_page_has_its_turn_between_requests_of_the_api(folders: tuple[Path, Path]) -> None:
    with serving(opened(folders)) as url, ThreadPoolExecutor(20) as crowd:
        others = [crowd.submit(asked, url, number) for number in range(19)]
        page = crowd.submit(post, url, {"question": "Is it?"})
        assert page.result(TIMEOUT).json()["asked"]["question"] == "Is it?"
        assert len({tuple(said(one.result(TIMEOUT)).items()) for one in others}) == 19


def prompts_of(*lengths: int) -> list[Any]:
    return [type("Prompt", (), {"token_ids": tuple(range(length))})() for length in lengths]


def numbers(prompts: Sequence[Any]) -> list[int]:
    return [len(prompt.token_ids) for prompt in prompts]


def blocked(queue: AnswerQueue) -> threading.Event:
    """Keeps the thread of a queue at work until the event is set."""
    may_end, begun = threading.Event(), threading.Event()
    queue.add(lambda: (begun.set(), may_end.wait(TIMEOUT)))
    assert begun.wait(TIMEOUT)
    return may_end


def test_what_fails_alone_fails_nobody_else() -> None:
    queue, rounds = AnswerQueue(), []

    def answer(prompts: Sequence[Any]) -> list[int]:
        rounds.append(numbers(prompts))
        if 3 in rounds[-1]:
            raise RuntimeError("of this one")
        return rounds[-1]

    def broken() -> list[Any]:
        raise ValueError("cannot be made")

    may_end = blocked(queue)
    good = queue.add_prompts(lambda: prompts_of(1, 2), answer)
    unmade = queue.add_prompts(broken, answer)
    bad = queue.add_prompts(lambda: prompts_of(3), answer)
    last = queue.add_prompts(lambda: prompts_of(4), answer)
    may_end.set()
    assert good.result(TIMEOUT) == [1, 2]
    assert last.result(TIMEOUT) == [4]
    with pytest.raises(RuntimeError, match="of this one"):
        bad.result(TIMEOUT)
    with pytest.raises(ValueError, match="cannot be made"):
        unmade.result(TIMEOUT)
    assert rounds == [[1, 2, 3, 4], [1, 2], [3], [4]]
    queue.close()


def test_a_round_has_an_end_and_places_are_counted_by_prompt() -> None:
    queue, rounds = AnswerQueue(places=8, tokens=11), []

    def answer(prompts: Sequence[Any]) -> list[int]:
        rounds.append(numbers(prompts))
        return rounds[-1]

    may_end = blocked(queue)
    first = [(8,), (10,), (10,), (11,)]
    futures = [queue.add_prompts(lambda own=own: prompts_of(*own), answer) for own in first]
    futures.append(queue.add_prompts(lambda: prompts_of(12, 11), answer, places=2))
    with pytest.raises(QueueFullError):
        queue.add_prompts(lambda: prompts_of(10, 11), answer, places=2)
    futures.append(queue.add_prompts(lambda: prompts_of(10), answer))
    with pytest.raises(QueueFullError):
        queue.add(lambda: None)
    gone = futures.pop(1)
    assert gone.cancel()
    may_end.set()
    assert [future.result(TIMEOUT) for future in futures] == [[8], [10], [11], [12, 11], [10]]
    assert rounds == [[8, 10, 11], [12, 11], [10]]  # what they begin with counts once
    queue.add_prompts(lambda: prompts_of(*[10] * 8), answer, places=8).result(TIMEOUT)
    queue.close()


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_killed_in_the_middle_it_starts_again_with_nothing_to_repair(
    folders: tuple[Path, Path],
) -> None:
    before = [digests(folder) for folder in folders]
    name = folders[0].name
    with started(*folders) as (process, url):
        first = said(asked(url, 1, name))
        with ThreadPoolExecutor(20) as crowd:
            waiting = [crowd.submit(asked, url, number, name) for number in range(20)]
            process.send_signal(signal.SIGKILL)
            process.wait(TIMEOUT)
            for one in waiting:
                assert one.exception(TIMEOUT) is None or isinstance(
                    one.exception(), httpx.TransportError
                )
    assert [digests(folder) for folder in folders] == before
    with started(*folders) as (_, url):
        assert json.dumps(said(asked(url, 1, name))) == json.dumps(first)
