"""The process that renders chat templates: a script of its own, which imports neither us nor torch.

It reads one request a line and writes one reply a line, both JSON. ``prompts.template`` kills it
when a reply takes too long; here the system limits the memory that a template may take.
"""

import json
import signal
import sys
from collections.abc import Mapping
from datetime import date
from typing import Any

from transformers.utils.chat_template_utils import _compile_jinja_template, render_jinja_template

MEMORY = 512 * 2**20
"""Bytes that a template may take, beyond what the process has when it is ready."""


def reply_to(request: Mapping[str, Any]) -> dict[str, str]:
    """Return ``text``, the rendered template, or ``error``, why there is none."""
    try:
        # The compiled template is kept, and rendered below. A prompt must not change at midnight:
        # its function for today's date is that of the run's.
        compiled = _compile_jinja_template(request["template"])
        compiled.globals["strftime_now"] = date.fromisoformat(request["date"]).strftime
        rendered, _ = render_jinja_template(
            [request["messages"]],
            chat_template=request["template"],
            add_generation_prompt=request["answering"],
            **request["variables"],
        )
        text = str(rendered[0])
    except Exception as error:  # an unreviewed program can raise anything
        said = " ".join(str(error)[:10_000].split()) or type(error).__name__
        return {"error": said[:1000]}
    if len(text) > request["longest"]:
        return {"error": f"it makes {len(text):,} characters of one message"}
    return {"text": text}


def _limit_memory() -> None:
    """Limit the address space, where the system can; beyond it a template sees a MemoryError."""
    try:
        import resource

        import psutil

        limit = psutil.Process().memory_info().vms + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (ImportError, ValueError, OSError):
        pass  # Windows has no such limit


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when this process ends
    _limit_memory()
    print("ready", flush=True)
    for request_line in sys.stdin:
        print(json.dumps(reply_to(json.loads(request_line))), flush=True)
