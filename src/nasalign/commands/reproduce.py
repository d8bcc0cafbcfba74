"""``nasalign reproduce``: the paper's tables and figures for other models."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from nasalign.commands.app import command
from nasalign.commands.job import Job
from nasalign.commands.options import (
    AsJson,
    DataOptions,
    Generator,
    Judge,
    Limit,
    LoadOptions,
    MaxCalls,
    SettingOptions,
    grouped,
)
from nasalign.errors import NasAlignError
from nasalign.evaluation.run_data import RunData
from nasalign.extras import require
from nasalign.models import processes
from nasalign.models.names import weights_stamp
from nasalign.reporting.console_tables import columns_table
from nasalign.reproduction.document import DOCUMENT
from nasalign.reproduction.forms import Forms
from nasalign.reproduction.layout import texts
from nasalign.reproduction.model_store import ModelStore
from nasalign.reproduction.paper_sets import PaperSet, paper_sets
from nasalign.reproduction.reproduce import PAPER, chosen_items, make_items
from nasalign.reproduction.sampled import SampledData
from nasalign.reproduction.study import Study


@grouped
def reproduce(
    model: Annotated[
        list[str],
        typer.Option("--model", metavar="MODEL", help="As for align; may be repeated."),
    ],
    settings: SettingOptions,
    load: LoadOptions,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="all, or such as table-3 or figure-5."),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="A folder of the data sets as they are published; the hub unless given."),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Where all is written; what is there already is used.")
    ] = Path("runs/reproduction"),
    limit: Limit = None,
    endpoint_model: Annotated[
        str | None,
        typer.Option(
            metavar="openai:MODEL", help="A model of an endpoint that Figure 1 shows too."
        ),
    ] = None,
    judge: Judge = None,
    generator: Generator = None,
    max_calls: MaxCalls = None,
    as_json: AsJson = False,
) -> None:
    """Make the paper's tables and figures for other models, beside the paper's own.

    A model is scored once for each data set and wording; an interrupted reproduction resumes.
    """
    with command(as_json) as (console, emit):
        require("plots")
        items = chosen_items(names or ["all"])
        asked = DataOptions(judge=judge, generator=generator, max_calls=max_calls, limit=limit)
        given = settings.set_ or []
        if endpoint_model:
            given = [*given, f"endpoint_model={endpoint_model}"]
        own = settings.config or settings.preset
        settings = replace(settings, set_=given if own else [*PAPER, *given])
        groups: dict[str, Any] = {"load": load, "data": asked, "settings": settings}
        jobs = [Job.of(console, "reproduce", name, **groups) for name in model]
        studies, made, whole = studies_of(jobs, data_dir, out), [], 0
        for result in make_items(studies, items, out, jobs[0].run.reporter):
            made.append(result.name)
            whole += not result.missing
            if not result.charts:
                header, rows = texts(result)
                console.print(columns_table(f"{result.name}: {result.title}", rows, header))
            for note in result.notes:
                console.print(f"  {note}", highlight=False, markup=False)
        console.print(f"All is in {out / DOCUMENT}; CSV files and pictures are beside it.")
        emit({"document": str(out / DOCUMENT), "made": made})
        if whole < len(items) and processes.is_first():  # the others only measure
            raise typer.Exit(2)


def studies_of(jobs: Sequence[Job], data_dir: Path | None, folder: Path) -> list[Study]:
    """Return the models of jobs with what was measured of them below a folder.

    Raises:
        NasAlignError: two models have the same name, or the data is not there.
    """
    sets = paper_sets(data_dir)
    sources = {one.data: one.files for one in sets.values() if one.files}
    names = [Path(job.model).name for job in jobs]
    if len({name.casefold() for name in names}) < len(names):  # some disks ignore the case
        raise NasAlignError(f"Two models have the same name: {', '.join(names)}.")
    return [
        _study(job, sets, sources, folder / name) for job, name in zip(jobs, names, strict=True)
    ]


def _study(
    job: Job,
    sets: Mapping[str, PaperSet],
    sources: Mapping[str, Sequence[Path]],
    folder: Path,
) -> Study:
    store = ModelStore(
        name=folder.name,
        open=job.session,
        reporter=job.run.reporter,
        sets=sets,
        folder=folder,
        changes=job.changes,
        asked={
            "model": job.model,
            "weights": weights_stamp(job.model),
            "load": vars(job.load),
            "settings": job.given_settings.as_dict(),
            "preset": job.preset is None,
        },
    )
    data = SampledData(store, RunData(job.run, job.given_settings, sources))
    return Study(store, data, Forms(store, data))
