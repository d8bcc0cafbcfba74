"""A tokenizer's chat template, which comes with the model and is a program.

It runs in the sandbox of transformers, so that it reaches nothing, and in a process of its own, so
that one which runs for ever or takes all memory is ended there.
"""

import atexit
import json
import math
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
"""Computing time of one message at most; mostly it is well below a thousandth of that."""
PATIENCE = 60.0
"""Seconds until the process is given up, where it does not end by itself."""
ROOM = 100_000
"""Characters that a template may add to what it is given."""


def render(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, str]], *, answering: bool
) -> str:
    """Returns messages as the template writes them: ``tokenizer.apply_chat_template``'s text.

    Args:
        tokenizer: has a chat template.
        messages: each with ``role`` and ``content``.
        answering: whether the beginning of the model's turn follows.

    Raises:
        PromptError: the template fails, does not end, or writes far too much; or jinja2 is too old.
    """
    given = sum(len(message["content"]) for message in messages)
    try:
        template = tokenizer.get_chat_template()
    except ValueError as error:  # there are several, and none is the default
        raise _failure(str(error)) from error
    request = {
        "template": template,
        "messages": [dict(message) for message in messages],
        "answering": answering,
        "variables": tokenizer.special_tokens_map | {"enable_thinking": False},
        "longest": ROOM + 2 * given,
        "seconds": SECONDS,
    }
    reply = _worker.ask(request)
    if "text" in reply:
        return str(reply["text"])
    if "length" in reply:
        raise PromptError(
            f"The chat template makes {reply['length']:,} characters of a message of {given:,}. "
            "Try chat=false."
        )
    raise _failure(reply["error"])


def stop() -> None:
    """Ends the process that renders, also in the middle; the next ``render`` starts another."""
    _worker.stop()


def _failure(reason: str) -> PromptError:
    return PromptError(f"The chat template fails: {shortened(reason)[1:-1]}. Try chat=false.")


class _Worker:
    """The process of ``template_worker``, started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._patience_ends = math.inf

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the answer to a request; see ``template_worker.answer``.

        Raises:
            PromptError: there is none.
        """
        line = json.dumps(request)
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            reply = self._said(line)
        if not reply:
            raise PromptError(
                f"The chat template takes more than {SECONDS:.0f} seconds of computing, or too "
                "much memory. Try chat=false."
            )
        return dict(json.loads(reply))

    def stop(self) -> None:
        """Kills the process; who waits for an answer gets none."""
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
            threading.Thread(target=self._watch, args=(self._process,), daemon=True).start()
        if not self._process or self._said("") != "ready":
            self._end()
            raise PromptError(
                "The process that renders chat templates does not start. Try chat=false."
            )

    def _said(self, line: str) -> str:
        """Sends a line, and returns the process's next one without its end, or "" if it ended."""
        process = self._process
        assert process
        assert process.stdin
        assert process.stdout
        self._patience_ends = time.monotonic() + PATIENCE
        try:
            process.stdin.write(line + "\n" * bool(line))
            process.stdin.flush()
            reply = process.stdout.readline()
        except OSError:  # it has ended
            reply = ""
        except BaseException:  # its answer must not be taken for the next one's
            self._end()
            raise
        finally:
            self._patience_ends = math.inf
        if not reply:
            self._end()
        return reply.rstrip("\n")

    def _watch(self, process: "subprocess.Popen[str]") -> None:
        """Kills the process if an answer never comes (a timer for each would take too long)."""
        while process.poll() is None:
            if time.monotonic() > self._patience_ends:
                process.kill()
            time.sleep(1)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process:
            process.kill()
            with suppress(OSError):  # what was not sent
                process.communicate()


_worker = _Worker()
atexit.register(stop)


def _forget() -> None:
    """Leaves the process to the parent of a fork."""
    global _worker
    _worker = _Worker()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
