"""``nasalign ask``."""

from typing import Annotated

import typer

from nasalign.adapters.adapter import load_adapter
from nasalign.adapters.adapter_file import read_calibration
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
from nasalign.errors import NasAlignError, shortened
from nasalign.evaluation.both_models import BothModels
from nasalign.models import processes
from nasalign.reporting.console_tables import answer_line, answer_tables, calibration_note
from nasalign.run import adapter_folder


@grouped
def ask(
    model: Model,
    settings: SettingOptions,
    load: LoadOptions,
    question: Annotated[
        str,
        typer.Argument(
            help="A yes/no question, or one for --answer; of a template, its only placeholder.",
            show_default=False,
        ),
    ] = "",
    answer: Annotated[
        str | None, typer.Option(help="An answer to verify: Is the answer ANSWER?")
    ] = None,
    context: Annotated[str | None, typer.Option(help="A text to answer from.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=TEXT", help="Any other placeholder of the template; may be repeated."
        ),
    ] = None,
    adapter: AdapterOf = None,
    as_json: AsJson = False,
) -> None:
    """Ask one yes/no question, of the untouched model and of the aligned one."""
    with command(as_json) as (console, emit):
        given = [one.partition("=") for one in column or []]
        wrong = [name for name, sign, _ in given if not sign]
        if wrong:
            raise NasAlignError(f"--column takes NAME=TEXT, not {shortened(wrong[0])}.")
        values = {name: text for name, _, text in given}
        values |= {"question": question, "answer": answer or "", "context": context or ""}
        job = Job.of(console, "ask", model, load=load, settings=settings, adapter=adapter)
        models = open_both(job)
        example = models.example(values)
        answers = models.ask(example)
        console.print(answer_line(answers, models.words), style="bold", highlight=False)
        for table in answer_tables(example.asked, answers, models.words):
            console.print(table)
        note = calibration_note(models.calibration, answers)
        if note:
            console.print(note, highlight=False, soft_wrap=True)
        emit(answers)


def open_both(job: Job) -> BothModels:
    """Load a model, and the adapter of the job if it has one.

    Raises:
        NasAlignError: the model, a setting or the adapter does not fit, or there are several
            processes.
    """
    if processes.count() > 1:
        raise NasAlignError("One process is enough to ask questions; start it without others.")
    session = job.session()
    folder = adapter_folder(job.adapter) if job.adapter else None
    loaded = load_adapter(folder, session.model) if folder else None
    return BothModels(session, loaded, read_calibration(folder) if folder else None)
