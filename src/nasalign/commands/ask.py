"""``nasalign ask``."""

from pathlib import Path
from typing import Annotated

import typer

from nasalign.adapters.adapter import load_adapter
from nasalign.commands.app import command
from nasalign.commands.job import Job
from nasalign.commands.options import (
    AdapterOf,
    AsJson,
    LoadOptions,
    Model,
    SettingOptions,
    grouped,
)
from nasalign.data.records import BinaryExample
from nasalign.errors import NasAlignError
from nasalign.evaluation.both_models import BothModels
from nasalign.models import processes
from nasalign.reporting.console_tables import answer_tables
from nasalign.run import adapter_folder


@grouped
def ask(
    model: Model,
    question: Annotated[str, typer.Argument(help="A yes/no question, or one for --answer.")],
    settings: SettingOptions,
    load: LoadOptions,
    answer: Annotated[
        str | None, typer.Option(help="An answer to verify: Is the answer ANSWER?")
    ] = None,
    context: Annotated[str | None, typer.Option(help="A text to answer from.")] = None,
    adapter: AdapterOf = None,
    as_json: AsJson = False,
) -> None:
    """Ask one yes/no question, of the untouched model and of the aligned one."""
    with command(as_json) as (console, emit):
        models = open_both(Job.of(console, "ask", model, load=load, settings=settings), adapter)
        answers = models.ask(BinaryExample(question, True, answer, context))
        for table in answer_tables(question, answers):
            console.print(table)
        emit(answers)


def open_both(job: Job, adapter: Path | None) -> BothModels:
    """Load a model, and an adapter for it if one is given.

    Raises:
        NasAlignError: the model, a setting or the adapter does not fit, or there are several
            processes.
    """
    if processes.count() > 1:
        raise NasAlignError("One process is enough to ask questions; start it without others.")
    session = job.session()
    loaded = load_adapter(adapter_folder(adapter), session.model) if adapter else None
    return BothModels(session, loaded)
