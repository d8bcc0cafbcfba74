"""The uvicorn server of the page and the API, and how it ends."""

import uvicorn
from torch import nn

from nasalign.errors import NasAlignError
from nasalign.serve.answer_queue import AnswerQueue
from nasalign.serve.connection import SECONDS, Connection
from nasalign.serve.page_app import make_app
from nasalign.serve.served_model import ServedModel

GRACE = 5
"""Seconds that running requests have when the server ends."""


def make_server(served: ServedModel, queue: AnswerQueue, host: str) -> uvicorn.Server:
    """Return the server of the page and the API; arguments as of ``make_app``."""
    config = uvicorn.Config(
        make_app(served, queue, host),
        log_level="warning",
        access_log=False,
        server_header=False,
        http=Connection,
        ws="none",
        lifespan="off",
        timeout_graceful_shutdown=GRACE,
        timeout_keep_alive=SECONDS,  # clients keep connections for 5 s, and must not be the later
    )
    return uvicorn.Server(config)


def end_passes(model: nn.Module) -> None:
    """Make every forward pass fail, also one that is running; the model is of no use after it."""

    def end(module: nn.Module, inputs: object) -> None:
        raise NasAlignError("The server has ended.")

    for module in model.modules():
        module.register_forward_pre_hook(end)
