"""``nasalign serve``."""

from contextlib import suppress
from typing import Annotated

import typer

from nasalign.commands.app import command
from nasalign.commands.ask import open_both
from nasalign.commands.job import Job
from nasalign.commands.options import (
    AdapterOf,
    LoadOptions,
    Model,
    SettingOptions,
    grouped,
)
from nasalign.data.access import is_loopback
from nasalign.extras import require
from nasalign.inference.batches import tokens_of_batch
from nasalign.models.names import hub_id, public_name
from nasalign.prompts import template


@grouped
def serve(
    model: Model,
    settings: SettingOptions,
    load: LoadOptions,
    adapter: AdapterOf = None,
    host: Annotated[
        str, typer.Option(help="Where to listen; this machine alone unless given.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")
    ] = 8000,
    untouched: Annotated[
        bool,
        typer.Option(
            help="Whether the API asks the untouched model too, which takes as long again."
        ),
    ] = True,
) -> None:
    """Serve a page to ask at, with both answers side by side, and an API like OpenAI's.

    The API has /v1/chat/completions and /v1/decisions. It needs the packages of the extra "serve".
    """
    with command(as_json=False) as (console, _):
        require("serve")
        from nasalign.serve.addresses import listen, page_address
        from nasalign.serve.answer_queue import ROUND_BATCHES, AnswerQueue
        from nasalign.serve.served_model import ServedModel
        from nasalign.serve.server import end_passes, make_server

        job = Job.of(console, "serve", model, load=load, settings=settings, adapter=adapter)
        say = job.run.say
        with listen(host, port) as listener:  # before the model is loaded, which may take long
            models = open_both(job)
            name = model if hub_id(model) else public_name(model)  # no folder of this machine
            scaling = models.scalings().get("aligned" if models.adapter else "untouched")
            served = ServedModel(models, name, scaling, untouched)
            queue = AnswerQueue(tokens=ROUND_BATCHES * tokens_of_batch(models.model))
            if not is_loopback(host):
                say(f"Anybody who reaches {host} can ask this model; there is no password.")
            address = page_address(listener, host)
            say(f"The page is at {address}; Ctrl-C ends it.")
            say(f"The API is at {address}v1, and calls the model {served.name}.")
            try:
                with suppress(KeyboardInterrupt):  # uvicorn raises it again when it has ended
                    make_server(served, queue, host).run([listener])
                say("Stopped; the model's files are untouched.")
            finally:
                end_passes(models.model)
                queue.close(template.stop)
