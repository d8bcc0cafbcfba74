"""Serving the page until somebody stops it."""

import errno
import socket
from contextlib import suppress
from pathlib import Path

from torch import nn

from nasalign.commands.ask import Pair
from nasalign.commands.job import Job
from nasalign.errors import NasAlignError
from nasalign.prompts import template
from nasalign.serve.desk import Desk
from nasalign.serve.guard import is_loopback, listens_everywhere
from nasalign.serve.page_app import make_server

PLACES = 64
"""Questions that may wait for the model at once."""


def serve_job(job: Job, adapter: Path | None, host: str, port: int) -> None:
    """Serves the page until it is interrupted.

    Args:
        job: the model, and whom to tell where the page is.
        adapter: a run directory or an adapter folder, or None for the untouched model alone.
        host: to listen at.
        port: to listen at; 0 takes a free one.

    Raises:
        NasAlignError: the address cannot be listened at, or the model or the adapter does not fit.
    """
    say = job.run.reporter.say
    with listen(host, port) as listener:  # before the model is loaded, which may take long
        pair = Pair.open(job, adapter)
        desk = Desk(PLACES)
        if not is_loopback(host):
            say(f"Anybody who reaches {host} can ask this model; there is no password.")
        say(f"The page is at {_address(listener, host)}; Ctrl-C ends it.")
        try:
            with suppress(KeyboardInterrupt):  # uvicorn raises it again when it has ended
                make_server(pair, desk, host, job.model).run([listener])
            say("Stopped; the model's files are untouched.")
        finally:
            _end(pair.model)
            desk.close(template.stop)


def _end(model: nn.Module) -> None:
    """Ends the question under way at the next module that it passes; no other can be asked."""

    def end(module: nn.Module, inputs: object) -> None:
        raise NasAlignError("The server has ended.")

    for module in model.modules():
        module.register_forward_pre_hook(end)


def listen(host: str, port: int) -> socket.socket:
    """Listens at an address; who comes before the model is loaded waits.

    Raises:
        NasAlignError: the port is taken, or the host is none of this machine.
    """
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family, backlog=128)
    except (OSError, OverflowError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            why = f"Port {port} of {host} is taken; give another one with --port, or 0 for any."
        elif isinstance(error, OSError) and error.errno == errno.EACCES:
            why = f"Port {port} is for the system; give one above 1023 with --port."
        else:
            why = f"Cannot listen at {host}, port {port}: {error}."
        raise NasAlignError(why) from error


def _address(listener: socket.socket, host: str) -> str:
    name = socket.gethostname() if listens_everywhere(host) else host
    port = listener.getsockname()[1]
    return f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"
