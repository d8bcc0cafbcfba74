"""``nasalign reproduce``."""

from pathlib import Path
from typing import Annotated

import typer

from nasalign.commands.app import command
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
    make_job,
)
from nasalign.extras import require
from nasalign.reporting.console_tables import columns_table


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
    judge: Judge = None,
    generator: Generator = None,
    max_calls: MaxCalls = None,
    as_json: AsJson = False,
) -> None:
    """Make the paper's tables and figures for other models, beside the paper's own.

    A model is scored once for each data set and wording; an interrupted reproduction goes on.
    """
    with command(as_json) as (console, emit):
        require("plots")
        from nasalign.reproduction.document import DOCUMENT  # the extra may be missing
        from nasalign.reproduction.layout import texts
        from nasalign.reproduction.reproduce import chosen_items, studies_of
        from nasalign.reproduction.reproduce import reproduce as make_items

        items = chosen_items(names or ["all"])
        asked = DataOptions(judge=judge, generator=generator, max_calls=max_calls, limit=limit)
        jobs = [make_job(console, name, load=load, data=asked, settings=settings) for name in model]
        studies, made = studies_of(jobs, data_dir, out), []
        for result in make_items(studies, items, out, jobs[0].run.reporter):
            made.append(result.name)
            if not result.charts:
                header, rows = texts(result)
                console.print(columns_table(f"{result.name}: {result.title}", rows, header))
            for note in result.notes:
                console.print(f"  {note}", highlight=False, markup=False)
        console.print(f"All is in {out / DOCUMENT}; CSV files and pictures are beside it.")
        emit({"document": str(out / DOCUMENT), "made": made})
        if len(made) < len(items):
            raise typer.Exit(2)
