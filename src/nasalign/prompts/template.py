"""Running a tokenizer's chat template, which comes with the model and is a program.

It runs in the sandbox of transformers, so that it reaches nothing, and in a process of its own, so
that one which runs forever or takes all memory is ended without harm to this process.
"""

import atexit
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from nasalign.errors import PromptError, shortened

SECONDS = 10.0
"""Time for one message at most; most take less than a millisecond."""
START_SECONDS = 60.0
"""Time for the process to start, which imports transformers."""
ROOM = 100_000
"""Characters that a template may add to the messages."""


Message = Mapping[str, Any]
"""``role`` and ``content``, a text or a list of parts; and what else a template may read."""


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    answering: bool,
    today: str | None = None,
) -> str:
    """Return messages as the template writes them: ``tokenizer.apply_chat_template``'s text.

    Args:
        tokenizer: has the template.
        messages: in their order.
        answering: whether the beginning of the model's turn follows.
        today: the date that the template is told, as ``YYYY-MM-DD``; today's unless given.

    Raises:
        PromptError: the template fails, does not end, or writes too much, or jinja2 is too old.
    """
    try:
        template = tokenizer.get_chat_template()
    except ValueError as error:  # there are several, and none is the default
        raise _failure(str(error)) from error
    reply = _worker.ask(
        {
            "template": template,
            "messages": [dict(message) for message in messages],
            "answering": answering,
            "date": today or time.strftime("%Y-%m-%d"),
            # The answer is to follow at once: templates call this one or the other.
            "variables": tokenizer.special_tokens_map
            | {"enable_thinking": False, "thinking": False},
            "longest": ROOM + 2 * sum(len(str(message["content"])) for message in messages),
        }
    )
    if "error" in reply:
        raise _failure(reply["error"])
    return reply["text"]


def stop() -> None:
    """Kill the process that renders, also during a request; the next ``render`` starts another."""
    _worker.stop()


def _failure(reason: str) -> PromptError:
    return PromptError(f"The chat template fails: {shortened(reason)[1:-1]}. Try chat=false.")


class _Worker:
    """The process of ``template_worker``, started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def ask(self, request: Mapping[str, Any]) -> dict[str, str]:
        """Return the reply of ``template_worker.reply_to``, or raise PromptError."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            reply = self._exchange(json.dumps(request) + "\n", SECONDS)
        if not reply.endswith("\n"):
            raise PromptError(
                f"The chat template takes more than {SECONDS:.0f} seconds, or too much memory. "
                "Try chat=false."
            )
        return dict(json.loads(reply))

    def stop(self) -> None:
        """Kill the process; a thread that waits for a reply gets none."""
        if self._process:
            self._process.kill()

    def _start(self) -> None:
        self._end()
        script = Path(__file__).with_name("template_worker.py")
        with suppress(OSError):
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
                env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        if not self._process or self._exchange("", START_SECONDS) != "ready\n":
            self._end()
            raise PromptError(
                "The process that renders chat templates does not start. Try chat=false."
            )

    def _exchange(self, line: str, seconds: float) -> str:
        """Send a line and return the next line of the process, without its end if it was killed."""
        process = self._process
        assert process
        assert process.stdin
        assert process.stdout
        # A timer works in every thread; a signal would only work in the main thread, and the
        # page of `serve` renders in others.
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        reply = ""
        try:
            process.stdin.write(line)
            process.stdin.flush()
            reply = process.stdout.readline()
        except OSError:  # it has ended
            pass
        finally:
            timer.cancel()
            if not reply.endswith("\n"):  # or interrupted: a late reply would be the next one's
                self._end()
        return reply

    def _end(self) -> None:
        process, self._process = self._process, None
        if process:
            process.kill()
            with suppress(OSError):  # what was not sent
                process.communicate()


_worker = _Worker()
atexit.register(stop)


def _forget() -> None:
    """Leave the process to the parent of a fork."""
    global _worker
    _worker = _Worker()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
