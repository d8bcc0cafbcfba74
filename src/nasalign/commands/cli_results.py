"""Commands that write data, tables, reports and corrected models."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from nasalign.commands.app import app, command
from nasalign.commands.options import (
    DATA_HELP,
    AsJson,
    DataOptions,
    Generator,
    Judge,
    Limit,
    LoadOptions,
    MaxCalls,
    OutOptions,
    SettingOptions,
    Source,
    grouped,
    make_job,
)
from nasalign.errors import NasAlignError
from nasalign.extras import require


@app.command("data")
@grouped
def data_(
    data: Annotated[str, typer.Argument(metavar="NAME|FILE", help=DATA_HELP, show_default=False)],
    out: Annotated[Path, typer.Option(help="The JSONL file to write.")],
    settings: SettingOptions,
    source: Source = None,
    generator: Generator = None,
    max_calls: MaxCalls = None,
    limit: Limit = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file if it is there.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a data set as yes/no rows, and say how many there are of each label."""
    with command(as_json) as (console, emit):
        from nasalign.commands.data import data_job
        from nasalign.reporting.console_tables import data_table

        asked = DataOptions(data, source=source, generator=generator, max_calls=max_calls)
        job = make_job(console, data=asked, settings=settings, out=OutOptions(overwrite=overwrite))
        summary = data_job(job, out, limit)
        console.print(data_table([summary]))
        console.print(f"Written to {out}.", highlight=False)
        emit(summary)


@app.command()
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
        from nasalign.reporting.console_tables import columns_table
        from nasalign.reproduction.document import DOCUMENT
        from nasalign.reproduction.layout import texts
        from nasalign.reproduction.reproduce import chosen_items, reproduce, studies_of

        items = chosen_items(names or ["all"])
        asked = DataOptions(judge=judge, generator=generator, max_calls=max_calls, limit=limit)
        jobs = [make_job(console, name, load=load, data=asked, settings=settings) for name in model]
        studies, made = studies_of(jobs, data_dir, out), []
        for result in reproduce(studies, items, out, jobs[0].run.reporter):
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


@app.command()
def report(
    run_folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run directory, of a finished run or not.")
    ],
    as_json: AsJson = False,
) -> None:
    """Write a run's report again: one HTML page that needs nothing else."""
    with command(as_json) as (console, emit):
        from nasalign.commands.report import report_job

        path = report_job(run_folder)
        console.print(f"Written to {path}.", highlight=False)
        emit({"report": str(path)})


@dataclass(frozen=True)
class WrittenOptions(LoadOptions):
    """How the base of an export is loaded, and the dtype that is written."""

    dtype: Annotated[
        str | None,
        typer.Option(
            help="Of the checkpoint that is written: float32, bfloat16 or float16; unless given, "
            "that in which it was tuned, so that nothing is rounded."
        ),
    ] = None


@app.command()
@grouped
def export(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory of align.")],
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="A folder that is not there, or a GGUF file.")
    ],
    written: WrittenOptions,
    form: Annotated[
        Literal["merged", "adapter", "gguf"],
        typer.Option(
            "--format",
            help="A whole checkpoint, the PEFT adapter alone, or a GGUF file by llama.cpp's "
            "convert_hf_to_gguf.py, from the checkout that LLAMA_CPP names or from the PATH.",
        ),
    ] = "merged",
    rank: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Reduce an adapter to this rank, the same for every module, for servers that cap "
            "it; exact unless given.",
        ),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(
            metavar="REPO",
            help="Then upload it with its card to this repository of the Hugging Face hub "
            "(owner/name), which is made if it is not there.",
        ),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Make that repository a private one.")
    ] = False,
    model: Annotated[
        str, typer.Option(help="The base model; the one named in the run unless given.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Write a corrected model that loads without nasalign."""
    with command(as_json) as (console, emit):
        from nasalign.commands import push as hub
        from nasalign.commands.export import export_job
        from nasalign.reporting.console_tables import export_lines

        if private and push is None:
            raise NasAlignError("--private is for --push REPO.")
        if push is not None:
            hub.check_push(push)
        job = make_job(console, model, load=replace(written, dtype=None))
        exported = export_job(job, run_folder, target, form, written.dtype, rank)
        console.print(f"Written to {exported.target}.", highlight=False, soft_wrap=True)
        for line in export_lines(exported.rounding, exported.reduction):
            console.print(line, highlight=False)
        pushed = hub.push(exported, push, private) if push else None
        if pushed:
            console.print(f"Uploaded to {pushed}.", highlight=False, soft_wrap=True)
        emit(exported.as_dict() | {"pushed": pushed})
