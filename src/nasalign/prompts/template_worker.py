"""The process that renders chat templates: a script of its own, which imports neither us nor torch.

It reads a request a line, and writes an answer a line, both JSON. A template may compute for some
seconds and take some memory; where it goes beyond, the system ends this process, or the template
sees a MemoryError. Windows knows neither limit; there ``data.template`` ends it after a minute.
"""

import json
import signal
import sys
from collections.abc import Mapping
from typing import Any

from transformers.utils.chat_template_utils import render_jinja_template

MEMORY = 512 * 2**20
"""Bytes that a template may take."""


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the ``text`` of a rendered template, its ``length`` if too long, or the ``error``.

    Args:
        request: ``template``, ``messages``, ``answering``, ``variables`` and ``longest``, the
            characters that may come back.
    """
    try:
        rendered, _ = render_jinja_template(
            [request["messages"]],
            chat_template=request["template"],
            add_generation_prompt=request["answering"],
            **request["variables"],
        )
        text = str(rendered[0])
    except Exception as error:  # whatever a program that nobody has read can raise
        said = " ".join(str(error)[:10_000].split()) or type(error).__name__
        return {"error": said[:1000]}
    return {"text": text} if len(text) <= request["longest"] else {"length": len(text)}


def main() -> None:
    """Answers until there are no more requests."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asks decides when this ends
    _limit_memory()
    print("ready", flush=True)
    timed = hasattr(signal, "setitimer")
    for line in sys.stdin:
        request = json.loads(line)
        if timed:
            signal.setitimer(signal.ITIMER_PROF, request["seconds"])
        reply = answer(request)
        if timed:
            signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(reply), flush=True)


def _limit_memory() -> None:
    """Limits the address space to what is there and ``MEMORY``, where the system can do that."""
    try:
        import resource

        import psutil

        limit = psutil.Process().memory_info().vms + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (ImportError, ValueError, OSError):
        pass


if __name__ == "__main__":
    main()
