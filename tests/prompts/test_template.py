"""A chat template is a stranger's program: its text is that of transformers, its means are few."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import tiny
from nasalign.errors import PromptError
from nasalign.prompts import template

MESSAGES = [
    [{"role": "user", "content": "Is it? <b>\u00e9\u4e2d\U0001f600\u2028 {{ 7 * 7 }}\n\t'\"\\ "}],
    [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Is it?"}],
    [{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": " Yes"}],
    [{"role": "user", "content": ""}],
]
TEMPLATES = {
    "chatml": (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "special tokens": "{{ bos_token }}{{ messages[0]['content'] | trim }}{{ eos_token }}{{ pad }}",
    "json": "{{ messages | tojson(indent=2) }}",
    "thinking": "{% if enable_thinking is false %}<think></think>{% endif %}{{ messages[-1] }}",
    "namespace": (
        "{% set found = namespace(count=0) %}{%- for one in messages -%}{% if loop.first %}"
        "{% continue %}{% endif %}{% set found.count = found.count + 1 %}{%- endfor %}"
        "{{ found.count }}{{ dict(a=1) }}{{ strftime_now('%Y-%m-%d') }}"
    ),
    "generation": "{% generation %}{{ messages[0].content | upper }}{% endgeneration %}",
}
FOR_EVER = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def with_template(text: str) -> Any:
    tokenizer = tiny.build_tokenizer()
    tokenizer.chat_template = text
    return tokenizer


def in_a_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def kept(said: list[str], tokenizer: Any) -> Callable[[], None]:
    """Renders, and keeps the sentence of the refusal."""

    def work() -> None:
        try:
            template.render(tokenizer, user("Is it?"), answering=True)
        except PromptError as error:
            said.append(str(error))

    return work


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("answering", [True, False])
def test_the_text_is_that_of_transformers(name: str, answering: bool) -> None:
    tokenizer = with_template(TEMPLATES[name])
    for messages in MESSAGES:
        expected = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=answering, enable_thinking=False
        )
        assert template.render(tokenizer, messages, answering=answering) == expected


def test_of_several_templates_the_default_is_taken() -> None:
    tokenizer = with_template("")
    tokenizer.chat_template = {"default": "{{ messages[0].content }}!", "tool_use": "?"}
    assert template.render(tokenizer, user("Is it?"), answering=True) == "Is it?!"
    tokenizer.chat_template = {"one": "1", "other": "2"}
    with pytest.raises(PromptError, match="multiple chat templates"):
        template.render(tokenizer, user("Is it?"), answering=True)


def test_outside_the_main_thread_it_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "SECONDS", 0.5)
    said: list[str] = []
    thread = in_a_thread(kept(said, with_template(FOR_EVER)))
    thread.join(30)
    assert not thread.is_alive()
    assert "chat=false" in said[0]
    good = with_template(TEMPLATES["chatml"])
    assert "Is it?" in template.render(good, user("Is it?"), answering=True)


def test_it_can_be_stopped_in_the_middle() -> None:
    good = with_template(TEMPLATES["chatml"])
    template.render(good, user("Is it?"), answering=True)
    said: list[str] = []
    thread = in_a_thread(kept(said, with_template(FOR_EVER)))
    time.sleep(0.3)
    start = time.monotonic()
    template.stop()
    thread.join(30)
    assert time.monotonic() - start < template.SECONDS / 2
    assert said
    assert "Is it?" in template.render(good, user("Is it?"), answering=True)


@pytest.mark.parametrize("program", ["/no/such/program", "/bin/false", ""])
def test_a_process_that_does_not_start(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    template.stop()
    monkeypatch.setattr(sys, "executable", program)
    monkeypatch.setattr(template, "_worker", template._Worker())
    with pytest.raises(PromptError, match="does not start"):
        template.render(with_template("x"), user("Is it?"), answering=True)


@pytest.mark.skipif(os.name == "nt", reason="Windows limits no memory")
def test_memory_is_limited() -> None:
    hoards = (
        "{% set kept = namespace(all=[]) %}{% for i in range(3000) %}"
        "{% set kept.all = kept.all + [(i ~ 'x') * 1000000] %}{% endfor %}{{ kept.all | length }}"
    )
    with pytest.raises(PromptError, match="emory"):
        template.render(with_template(hoards), user("Is it?"), answering=True)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such timer")
def test_an_answer_that_was_not_waited_for_is_nobody_elses() -> None:
    late = with_template(
        "{% for a in range(3000) %}{% for b in range(999) %}{% endfor %}{% endfor %}"
    )

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    good = with_template(TEMPLATES["chatml"])
    template.render(good, user("first"), answering=True)
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    try:
        with pytest.raises(KeyboardInterrupt):
            template.render(late, user("late"), answering=True)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert "second" in template.render(good, user("second"), answering=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_has_a_process_of_its_own() -> None:
    good = with_template("{{ messages[0].content }}")
    template.render(good, user("before"), answering=True)

    def all_mine(name: str) -> bool:
        texts = [f"{name} {number}" for number in range(300)]
        return all(template.render(good, user(one), answering=True) == one for one in texts)

    child = os.fork()
    if child == 0:
        fine = False
        try:
            fine = all_mine("child")
            template.stop()
        finally:
            os._exit(0 if fine else 1)
    assert all_mine("parent")
    assert os.waitpid(child, 0)[1] == 0
