"""Many ask at once, some leave, and the queue has an end."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import httpx
import pytest
import torch

from nasalign.data.records import BinaryExample
from nasalign.evaluation.both_models import BothModels
from nasalign.serve.answer_queue import AnswerQueue, QueueFullError
from served_page import Slow, opened, post, serving

TIMEOUT = 60


def test_fifty_at_once_are_answered_as_ask_answers(folders: tuple[Path, Path]) -> None:
    questions = [
        {
            "question": f"Is {number} more than {number % 7}?" + " Really?" * (number % 5),
            "answer": "Paris" if number % 3 == 0 else None,
            "context": f"There are {number} of them." if number % 4 == 0 else None,
        }
        for number in range(50)
    ]
    gate = threading.Barrier(len(questions))

    def ask(asked: dict[str, Any]) -> httpx.Response:
        gate.wait(TIMEOUT)
        return post(url, asked)

    with serving(opened(folders)) as url, ThreadPoolExecutor(len(questions)) as crowd:
        responses = list(crowd.map(ask, questions))

    alone = opened(folders)
    for asked, response in zip(questions, responses, strict=True):
        assert response.status_code == 200, response.text
        found = response.json()
        assert found["asked"] == asked
        example = BinaryExample(asked["question"], True, asked["answer"], asked["context"])
        assert found["sides"] == alone.ask(example)
        assert asked["question"] in "".join(found["looks"]["tokens"])
    distinct = {response.json()["sides"]["aligned"]["p_yes"] for response in responses}
    assert len(distinct) == len(questions)


class Watched(AnswerQueue):
    """A queue that says what it took."""

    def __init__(self, places: int) -> None:
        super().__init__(places)
        self.taken: Queue[Future[Any]] = Queue()

    def add(self, work: Callable[[], Any]) -> Future[Any]:
        future = super().add(work)
        self.taken.put(future)
        return future


@contextmanager
def slowly(places: int) -> Iterator[tuple[str, Slow, Watched]]:
    slow, queue = Slow(), Watched(places)
    with serving(slow, queue) as url:  # type: ignore[arg-type]
        try:
            yield url, slow, queue
        finally:
            slow.may_end.set()


def test_a_full_queue_refuses_and_goes_on() -> None:
    with slowly(2) as (url, slow, _), ThreadPoolExecutor(3) as crowd:
        first = crowd.submit(post, url, {"question": "first"})
        assert slow.asked.get(timeout=TIMEOUT) == "first"
        others = [crowd.submit(post, url, {"question": name}) for name in ("second", "third")]
        (refused,), (waiting,) = wait(others, TIMEOUT, FIRST_COMPLETED)
        assert refused.result().status_code == 503
        assert int(refused.result().headers["Retry-After"]) > 0
        assert "ask again" in refused.result().json()["error"]
        assert httpx.get(f"{url}/api/about", trust_env=False).status_code == 200  # it is alive
        slow.may_end.set()
        for asked in (first, waiting):
            assert asked.result().status_code == 200
        assert post(url, {"question": "fourth"}).json()["sides"]["untouched"]["said"] == "fourth"


def leave(url: str, question: str, arrived: Callable[[], object]) -> None:
    """Asks, and hangs up once the question has arrived."""
    host, port = url.removeprefix("http://").split(":")
    body = f'{{"question": "{question}"}}'
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            f"POST /api/ask HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        arrived()


def test_who_leaves_before_its_turn_is_not_answered_and_frees_its_place() -> None:
    with slowly(2) as (url, slow, queue), ThreadPoolExecutor(2) as crowd:
        first = crowd.submit(post, url, {"question": "first"})
        queue.taken.get(timeout=TIMEOUT)
        slow.asked.get(timeout=TIMEOUT)
        gone, waiting = threading.Event(), []
        leave(url, "left", lambda: waiting.append(queue.taken.get(timeout=TIMEOUT)))
        waiting[0].add_done_callback(lambda future: gone.set())
        assert gone.wait(TIMEOUT)
        assert waiting[0].cancelled()
        third = crowd.submit(post, url, {"question": "third"})
        queue.taken.get(timeout=TIMEOUT)  # its place is free again
        slow.may_end.set()
        assert first.result().status_code == third.result().status_code == 200
        assert slow.done == ["first", "third"]


def test_who_leaves_while_it_is_answered_breaks_nothing() -> None:
    with slowly(2) as (url, slow, queue):
        leave(url, "left", lambda: slow.asked.get(timeout=TIMEOUT))
        under_way = queue.taken.get(timeout=TIMEOUT)
        slow.may_end.set()
        assert under_way.result(TIMEOUT)["sides"]["untouched"]["said"] == "left"
        assert post(url, {"question": "next"}).json()["sides"]["untouched"]["said"] == "next"


def test_a_model_that_fails_is_said_and_the_next_is_answered(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = opened(folders)
    look = BothModels.look

    def broken(self: BothModels, example: BinaryExample, heads: Any) -> dict[str, Any]:
        if example.question == "Is it broken?":
            raise RuntimeError("out of memory at 0x7f")
        return look(self, example, heads)

    monkeypatch.setattr(BothModels, "look", broken)
    with serving(pair) as url:
        failed = post(url, {"question": "Is it broken?"})
        assert failed.status_code == 500
        assert failed.json()["error"].startswith("The model failed")
        assert "0x7f" not in failed.text
        assert failed.headers["X-Content-Type-Options"] == "nosniff"
        assert post(url, {"question": "Is it?"}).status_code == 200


def test_a_question_that_memory_does_not_hold_is_said_and_the_next_is_answered(
    folders: tuple[Path, Path],
) -> None:
    pair = opened(folders)
    before = {name: weight.clone() for name, weight in pair.model.state_dict().items()}

    def small(module: object, inputs: tuple[torch.Tensor, ...]) -> None:
        if inputs[0].shape[1] > 100:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    pair.model.model.layers[-1].register_forward_pre_hook(small)
    with serving(pair) as url:
        failed = post(url, {"question": f"Is it {'very ' * 40}broken?"})
        assert failed.status_code == 422
        assert failed.json()["error"].startswith("Memory ran out on cpu while scoring")
        assert "shorten the longest question" in failed.json()["error"]
        assert post(url, {"question": "Is it?"}).status_code == 200
    after = pair.model.state_dict()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())


def test_a_queue_that_was_closed_takes_nothing() -> None:
    queue = AnswerQueue(1)
    queue.close()
    for _ in range(2):  # nor does it lose a place
        with pytest.raises(QueueFullError):
            queue.add(lambda: 1)
