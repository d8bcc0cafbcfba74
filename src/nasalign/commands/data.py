"""``nasalign data``: a data set as yes/no rows, with the summary of Table 8."""

from pathlib import Path
from typing import Annotated, Any

import typer

from nasalign.commands.app import command
from nasalign.commands.job import Job
from nasalign.commands.options import (
    DATA_HELP,
    AsJson,
    Columns,
    DataOptions,
    Generator,
    GroupBy,
    Labels,
    Limit,
    MaxCalls,
    OutOptions,
    SettingOptions,
    Source,
    Strict,
    grouped,
)
from nasalign.data.binary import Binary, sample, to_binary
from nasalign.data.records import BinaryExample
from nasalign.data.splits import with_context
from nasalign.errors import DataError, NasAlignError
from nasalign.io.files import write_jsonl
from nasalign.reporting.console_tables import data_table


@grouped
def data(
    data: Annotated[str, typer.Argument(metavar="NAME|FILE", help=DATA_HELP, show_default=False)],
    out: Annotated[Path, typer.Option(help="The JSONL file to write.")],
    settings: SettingOptions,
    source: Source = None,
    generator: Generator = None,
    max_calls: MaxCalls = None,
    limit: Limit = None,
    columns: Columns = None,
    labels: Labels = None,
    group_by: GroupBy = None,
    strict: Strict = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file if it is there.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a data set as yes/no rows, and say how many there are of each label."""
    with command(as_json) as (console, emit):
        asked = DataOptions(
            data,
            source=source,
            generator=generator,
            max_calls=max_calls,
            columns=columns,
            labels=labels,
            group_by=group_by,
            strict=strict,
        )
        job = Job.of(
            console, "data", data=asked, settings=settings, out=OutOptions(overwrite=overwrite)
        )
        summary = data_job(job, out, limit)
        console.print(data_table([summary]))
        console.print(f"Written to {out}.", highlight=False)
        emit(summary)


def data_job(job: Job, out: Path, limit: int | None = None) -> dict[str, Any]:
    """Write rows ``{"id", "dataset", "question", "context", "answer", "label"}``.

    ``answer`` is the shown answer, or null where the question asks for yes or no itself. The rows
    can be read again as data of any command.

    Args:
        job: the data and the settings; no model is loaded.
        out: the JSONL file.
        limit: questions at most; all unless given.

    Returns:
        The row of Table 8: ``positives``, ``negatives``, ``total``, the ``paper``'s counts, and
        what was ``dropped`` by reason, and each row ``left_out``.

    Raises:
        NasAlignError: the data is broken, nothing is left, or the file cannot be written.
    """
    if out.suffix.lower() != ".jsonl":
        raise NasAlignError(f"The rows are written as JSON lines, so {out} must end in .jsonl.")
    if out.exists() and not job.out.overwrite:
        raise NasAlignError(f"The file {out} is there already; give another, or --overwrite.")
    settings, run = job.given_settings, job.run
    loaded = job.run_data.read(job.data.data)
    chosen = sample(loaded.records, limit or len(loaded.records), settings.seed)
    chosen, mode = with_context(chosen, settings.context)
    generator = job.endpoints.chat(settings.generator, settings, run)
    title = "Writing questions"
    with job.endpoints.stage(run, "examples", title, len(chosen), generator) as done:
        binary = to_binary(
            chosen,
            settings.seed,
            loaded.questions,
            sides=settings.sides,
            generator=generator,
            progress=done,
        )
    run.drop(binary.dropped, loaded.name)
    if not binary.examples:
        raise DataError(f"{loaded.name} leaves no example, so nothing is written.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(out, _rows(loaded.name, binary))
    except OSError as error:
        raise NasAlignError(f"Cannot write {out}: {error.strerror}.") from error
    positives = sum(example.known_label for example in binary.examples)
    paper = loaded.source.paper if loaded.source else None
    return {
        "dataset": loaded.name,
        "origin": loaded.origin,
        "positives": positives,
        "negatives": len(binary.examples) - positives,
        "total": len(binary.examples),
        "paper": paper and {"positives": paper[0], "negatives": paper[1], "total": sum(paper)},
        "dropped": run.facts.get("dropped", {}).get(loaded.name, {}),
        "left_out": run.left_out,
        "context": mode,
        "generator": settings.generator,
        "out": str(out),
    }


def _rows(name: str, binary: Binary) -> list[dict[str, Any]]:
    return [_row(name, number, example) for number, example in enumerate(binary.examples, start=1)]


def _row(name: str, number: int, example: BinaryExample) -> dict[str, Any]:
    return {
        "id": example.id or f"{name}-{number}",
        "dataset": name,
        "question": example.question,
        "context": example.context,
        "answer": example.answer,
        "label": example.label,
    }
