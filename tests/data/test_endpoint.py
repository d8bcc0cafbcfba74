"""An endpoint is asked each thing once, and says in a sentence what is wrong with it."""

import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_endpoint import FakeEndpoint, completion, serving
from nasalign.data import endpoint as module
from nasalign.data.conversation import Conversation
from nasalign.data.endpoint import EndpointChat
from nasalign.errors import EndpointError

ASKED = [Conversation("Be short.", f"Question {number}?") for number in range(6)]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEndpoint]:
    with serving() as fake:
        monkeypatch.setenv("OPENAI_BASE_URL", fake.url)
        monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
        yield fake


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRIES", 1)
    monkeypatch.setattr(module, "_TIMEOUT", 0.4)


def last_word(request: dict) -> tuple[int, object]:
    time.sleep(0.02)  # so that calls overlap
    return completion(request["messages"][1]["content"].split()[-1])


def test_answers_come_in_order_and_are_counted(fake: FakeEndpoint, tmp_path: Path) -> None:
    fake.reply = last_word
    chat = EndpointChat("gpt-4", tmp_path / "new" / "answers.sqlite", concurrency=2)
    done: list[int] = []
    assert chat.complete(ASKED, done.append) == [f"{number}?" for number in range(6)]
    assert (sum(done), fake.busiest) == (6, 2)
    assert (chat.usage.calls, chat.usage.cached, chat.usage.refused) == (6, 0, 0)
    assert (chat.usage.prompt_tokens, chat.usage.completion_tokens) == (66, 18)
    request = next(one for one in fake.asked if one["messages"][1]["content"] == "Question 2?")
    assert request["model"] == "gpt-4"
    assert request["temperature"] == 0
    assert request["messages"][0] == {"role": "system", "content": "Be short."}


def test_nothing_is_asked_twice(fake: FakeEndpoint, tmp_path: Path) -> None:
    fake.reply = last_word
    path = tmp_path / "answers.sqlite"
    EndpointChat("gpt-4", path).complete(ASKED[:4])
    chat = EndpointChat("gpt-4", path)
    assert chat.complete([*ASKED, *ASKED]) == [f"{number}?" for number in range(6)] * 2
    assert len(fake.asked) == 6
    assert (chat.usage.calls, chat.usage.cached) == (2, 8)
    EndpointChat("gpt-5", path).complete(ASKED[:1])  # another model is another answer
    assert len(fake.asked) == 7


def test_the_limit_of_calls_keeps_what_came(fake: FakeEndpoint, tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    with pytest.raises(EndpointError, match=r"limit of 4 calls is reached with 2 answers missing"):
        EndpointChat("m", path, max_calls=4).complete(ASKED)
    assert len(fake.asked) == 4
    assert EndpointChat("m", path, max_calls=4).complete(ASKED) == ["yes"] * 6
    assert len(fake.asked) == 6


def test_a_busy_endpoint_is_asked_again(fake: FakeEndpoint, tmp_path: Path) -> None:
    replies = [(429, {}), (503, {}), completion("at last")]
    fake.reply = lambda request: replies.pop(0)
    chat = EndpointChat("m", tmp_path / "answers.sqlite")
    assert chat.complete(ASKED[:1]) == ["at last"]
    assert len(fake.asked) == 3
    assert chat.usage.calls == 1


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (429, {"error": {"message": "slow down"}}, r"answers 429: .*slow down"),
        (401, {"error": {"message": "bad key"}}, r"answers 401: .*bad key"),
        (404, {"error": {"message": "no such model"}}, r"answers 404: .*no such model"),
        (200, {"hello": "world"}, r"not with a chat completion"),
    ],
)
def test_an_endpoint_that_fails_is_named(
    fake: FakeEndpoint, tmp_path: Path, status: int, body: object, sentence: str
) -> None:
    fake.reply = lambda request: (status, body)
    with pytest.raises(EndpointError, match=sentence) as caught:
        EndpointChat("m", tmp_path / "answers.sqlite").complete(ASKED)
    assert f"{fake.url.removesuffix('/v1')} answers" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret-key" not in str(caught.value)


@pytest.mark.usefixtures("impatient")
def test_an_endpoint_that_is_down_is_named(
    fake: FakeEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    sentence = r"http://127\.0\.0\.1:9 cannot be reached: .*start again"
    with pytest.raises(EndpointError, match=sentence):
        EndpointChat("m", tmp_path / "answers.sqlite").complete(ASKED[:1])


@pytest.mark.usefixtures("impatient")
def test_what_came_before_a_failure_is_kept(fake: FakeEndpoint, tmp_path: Path) -> None:
    replies = [completion("yes")] * 3
    fake.reply = lambda request: replies.pop() if replies else (401, {})
    path = tmp_path / "answers.sqlite"
    with pytest.raises(EndpointError, match="What was answered before is kept"):
        EndpointChat("m", path, concurrency=1).complete(ASKED)
    rows = sqlite3.connect(path).execute("SELECT COUNT(*) FROM answers").fetchone()
    assert rows == (3,)


def test_a_refused_question_is_counted_and_the_others_go_on(
    fake: FakeEndpoint, tmp_path: Path
) -> None:
    refusal = (400, {"error": {"message": "content filter"}})
    fake.reply = lambda request: refusal if "2?" in json.dumps(request) else completion("no")
    chat = EndpointChat("m", tmp_path / "answers.sqlite")
    assert chat.complete(ASKED) == ["no", "no", None, "no", "no", "no"]
    assert (chat.usage.calls, chat.usage.refused) == (5, 1)
    fake.reply = lambda request: (400, {"error": {"message": "no model m here"}})
    with pytest.raises(EndpointError, match=r"refuses every one of 1 questions: .*no model m here"):
        EndpointChat("m", tmp_path / "answers.sqlite").complete(ASKED)


def test_a_model_that_takes_other_options_gets_them(fake: FakeEndpoint, tmp_path: Path) -> None:
    def picky(request: dict) -> tuple[int, object]:
        if "max_tokens" in request:
            return 400, {"error": {"message": "Use 'max_completion_tokens' instead."}}
        if "temperature" in request:
            return 400, {"error": {"message": "Unsupported value: 'temperature'."}}
        return completion("yes")

    fake.reply = picky
    assert EndpointChat("o9", tmp_path / "a.sqlite", concurrency=1).complete(ASKED) == ["yes"] * 6
    assert len(fake.asked) == 8
    assert fake.asked[-1]["max_completion_tokens"] > 1000


@pytest.mark.parametrize(
    ("text", "ends"), [(None, "stop"), (" \n", "stop"), ("Ye", "length"), ("No", "content_filter")]
)
def test_an_answer_that_is_empty_or_cut_off_is_used_but_not_kept(
    fake: FakeEndpoint, tmp_path: Path, text: str | None, ends: str
) -> None:
    fake.reply = lambda request: completion(text, ends)
    path = tmp_path / "answers.sqlite"
    chat = EndpointChat("m", path)
    assert chat.complete(ASKED[:2]) == [text or ""] * 2
    assert (chat.usage.calls, chat.usage.incomplete) == (2, 2)
    fake.reply = lambda request: completion("yes")
    for _ in range(2):
        assert EndpointChat("m", path).complete(ASKED[:2]) == ["yes"] * 2
    assert len(fake.asked) == 4


def test_answers_of_another_endpoint_or_with_other_options_are_others(
    fake: FakeEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "answers.sqlite"
    said = iter("abcdef")
    fake.reply = lambda request: completion(next(said))
    chat = lambda: EndpointChat("m", path).complete(ASKED[:1])  # noqa: E731
    assert chat() == ["a"]
    with monkeypatch.context() as patch:
        patch.setattr(module, "MAX_TOKENS", 16)
        assert chat() == ["b"]
    assert chat() == ["a"]
    monkeypatch.setenv("OPENAI_BASE_URL", fake.url.replace("/v1", "/other"))
    assert chat() == ["c"]
    monkeypatch.setenv("OPENAI_BASE_URL", fake.url.replace("127.0.0.1", "localhost"))
    assert chat() == ["d"]
    monkeypatch.setenv("OPENAI_BASE_URL", fake.url.replace("//", "//me:word@") + "/?token=1234")
    assert chat() == ["a"]  # who asks is no part of the question


def test_the_cache_is_for_its_owner_alone(fake: FakeEndpoint, tmp_path: Path) -> None:
    for old in (False, True):
        folder = tmp_path / f"{old}" / "nasalign"
        path = folder / "answers.sqlite"
        if old:  # as it was written before
            (folder / "smollm2-135m-abc").mkdir(parents=True)
            folder.chmod(0o755)
            with sqlite3.connect(path) as before:
                before.execute("PRAGMA journal_mode=WAL")
                before.execute("CREATE TABLE other (a)")
            path.chmod(0o644)
            for name in ("answers.sqlite-wal", "answers.sqlite-shm"):
                assert (folder / name).stat().st_mode & 0o777 == 0o644
        EndpointChat("m", path).complete(ASKED)
        files = list(folder.glob("answers*"))
        assert len(files) == 3, files
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_of_other_things_keeps_its_rights(fake: FakeEndpoint, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    tmp_path.chmod(0o755)
    EndpointChat("m", tmp_path / "answers.sqlite").complete(ASKED)
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_missing_key_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(EndpointError, match="OPENAI_API_KEY is not set"):
        EndpointChat("gpt-4", tmp_path / "answers.sqlite")
