"""The uvicorn server of the page, and how it ends."""

import uvicorn
from torch import nn

from nasalign.errors import NasAlignError
from nasalign.evaluation.both_models import BothModels
from nasalign.serve.answer_queue import AnswerQueue
from nasalign.serve.connection import Connection
from nasalign.serve.page_app import make_app

GRACE = 5
"""Seconds that running requests have when the server ends."""


def make_server(models: BothModels, queue: AnswerQueue, host: str, name: str) -> uvicorn.Server:
    """Return the server of the page; arguments as of ``make_app``."""
    config = uvicorn.Config(
        make_app(models, queue, host, name),
        log_level="warning",
        access_log=False,
        server_header=False,
        http=Connection,
        ws="none",
        lifespan="off",
        timeout_graceful_shutdown=GRACE,
    )
    return uvicorn.Server(config)


def end_passes(model: nn.Module) -> None:
    """Make every forward pass fail, also one that is running; the model is of no use after it."""

    def end(module: nn.Module, inputs: object) -> None:
        raise NasAlignError("The server has ended.")

    for module in model.modules():
        module.register_forward_pre_hook(end)
