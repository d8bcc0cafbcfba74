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
) -> None:
    """Serve a page to ask at: both answers side by side, and where the heads look.

    It needs the packages of the extra "serve".
    """
    with command(as_json=False) as (console, _):
        require("serve")
        from nasalign.serve.addresses import listen, page_address
        from nasalign.serve.answer_queue import AnswerQueue
        from nasalign.serve.server import end_passes, make_server

        job = Job.of(console, "serve", model, load=load, settings=settings, adapter=adapter)
        say = job.run.say
        with listen(host, port) as listener:  # before the model is loaded, which may take long
            models, queue = open_both(job), AnswerQueue()
            if not is_loopback(host):
                say(f"Anybody who reaches {host} can ask this model; there is no password.")
            say(f"The page is at {page_address(listener, host)}; Ctrl-C ends it.")
            try:
                with suppress(KeyboardInterrupt):  # uvicorn raises it again when it has ended
                    make_server(models, queue, host, model).run([listener])
                say("Stopped; the model's files are untouched.")
            finally:
                end_passes(models.model)
                queue.close(template.stop)
