"""``nasalign compare``: ways to correct a model in one table: same data, splits and decoder."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer

from nasalign.commands.app import command
from nasalign.commands.early import check_row_names
from nasalign.commands.job import Job
from nasalign.commands.options import (
    AsJson,
    DataOptions,
    Further,
    LoadOptions,
    Model,
    OutOptions,
    Resume,
    SettingOptions,
    Track,
    grouped,
    run_folder,
)
from nasalign.commands.row_workers import measured_by, workers_for
from nasalign.data.records import BinaryExample, load_facts
from nasalign.errors import DataError, NasAlignError
from nasalign.evaluation.examples import example_sets, without_evidence
from nasalign.evaluation.free_answers import FreeQuestions
from nasalign.io.files import read_json, write_json, write_jsonl
from nasalign.io.storage import make_subfolder, seal, write_text
from nasalign.models import processes
from nasalign.nasa.knowledge import what_it_knows
from nasalign.nasa.probing import probing_set
from nasalign.reporting.comparison_table import as_csv, print_comparison
from nasalign.reporting.formats import number, rounded
from nasalign.reporting.report import write_report
from nasalign.rivals.all import RIVALS
from nasalign.rivals.baselines import UNTOUCHED
from nasalign.rivals.material import SHOTS, material_of
from nasalign.rivals.rival import Rival
from nasalign.rivals.row import FOLDER, Measured, RowMeasurement, answers_path
from nasalign.run import Run
from nasalign.tracking import Tracker, TrackerName

FILE, CSV_FILE = "comparison.json", "comparison.csv"
NAMES = tuple(rival.name for rival in RIVALS)
ASKED_FOR = tuple(rival.name for rival in RIVALS if rival.asked_for)


@grouped
def compare(
    model: Model,
    data: DataOptions,
    out: OutOptions,
    settings: SettingOptions,
    load: LoadOptions,
    further: Further = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,...",
            help=f"These rows alone, of {', '.join(NAMES)}; untouched always is one. Unless given, "
            f"all but {', '.join(ASKED_FOR)}.",
        ),
    ] = None,
    track: Track = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Rows to measure at once, each by a process with a share of the cores; unless "
            "given, on a CPU as many as there are cores and room in memory, else 1.",
        ),
    ] = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Set other ways to correct a model beside ours: same data, same splits, same decoder.

    The run directory is runs/MODEL-compare unless --out names another. A row that cannot be had
    does not stop the others; the command then exits with 2.
    """
    with command(as_json) as (console, emit):
        folder = out.out or run_folder(model, "-compare")
        job = Job.of(
            console,
            "compare",
            model,
            data=data,
            load=load,
            settings=settings,
            out=replace(out, out=folder),
            further=further or [],
            resume=resume,
        )
        names = [name.strip() for text in only or [] for name in text.split(",") if name.strip()]
        result = compare_job(job, names, track, workers)
        print_comparison(console, result)
        job.run.say(
            f"The table is {folder / 'comparison.csv'}; the report is {folder / 'report.html'}."
        )
        emit(result | {"run": str(folder)})
        if any(row["error"] and not row["nothing_to_fix"] for row in result["rows"]):
            raise typer.Exit(2)


def compare_job(
    job: Job,
    only: Sequence[str] = (),
    track: TrackerName | None = None,
    workers: int | None = 1,
) -> dict[str, Any]:
    """Compare ways to correct a model; write the run directory.

    A row that is done is in ``compare/NAME.json``; when resuming it is not run again, and rows may
    be added.

    Args:
        job: the model, the data, the settings and the run directory.
        only: names of the rows, all that need not be asked for unless given; the untouched model
            is always one.
        track: the package that figures and charts are logged with, if any.
        workers: number of processes that measure rows; as many as is best if None.

    Returns:
        The content of ``comparison.json``: ``datasets`` with ``n``, ``questions`` and the share of
        ``positives`` by name; ``rows``, each with its figures on every data set, its cost and its
        side effects, or with an ``error``.

    Raises:
        NasAlignError: the model, the data, a setting, a name or the folder does not fit.
    """
    wanted = _chosen(only)
    _check_settings(job)
    with job.locked(), job.tracked(track) as tracker:
        measure, run = _measurement(job), job.run
        rows = _rows(job, measure, wanted, workers, tracker)
        datasets = {name: _about(examples) for name, examples in measure.sets.items()}
        decoder = measure.session.settings.decoder
        result = {"datasets": datasets, "rows": rows, "decoder": decoder}
        if run.folder:
            names = [row["name"] for row in rows]
            run.facts["compare"]["only"] = [] if set(names) == _chosen([]) else names
            run.save()
            run.write(FILE, result)
            write_text(run.folder / CSV_FILE, as_csv(result))
            write_report(run.folder)
            tracker.charts(run.folder)
        return result


def _measurement(job: Job) -> RowMeasurement:
    """Load the model and the data, and return what measures rows.

    Raises:
        NasAlignError: the model, the data, a setting or the folder does not fit.
    """
    splits, run = job.splits(), job.run
    if splits.part == "development" and splits.same:
        raise NasAlignError(
            "Rows are chosen on the development split, so they cannot be compared on it; take "
            "split=test."
        )
    fitted_on = [*splits.of_development, *load_facts("probing")]
    splits = job.run_data.holding_out(splits, SHOTS)
    splits = job.run_data.apart(splits, fitted_on, "rows are fitted or chosen on it")
    run.say(splits.sentence)
    more = job.run_data.further(splits, job.further)
    session = job.session()
    records, sets = example_sets(session, splits, more)
    parametric = what_it_knows(session, without_evidence(splits.probing))
    probing = probing_set(session, parametric)
    material = material_of(session, splits, probing, parametric)
    parts = {
        "pairs": material.pairs,
        "development": material.development,
        "shots": material.shots,
    }
    run.facts["compare"] = {name: len(examples) for name, examples in parts.items()}
    run.save()
    asked = FreeQuestions.held_out(session, splits, records)
    measure = RowMeasurement(material, sets, asked)
    measure.read_untouched()
    return measure


def _chosen(only: Sequence[str]) -> set[str]:
    """The names of the rows that are wanted.

    Raises:
        NasAlignError: there is no such row.
    """
    check_row_names(only, [rival.name for rival in RIVALS])
    usual = [rival.name for rival in RIVALS if not rival.asked_for]
    return {UNTOUCHED.name, *(only or usual)}


def _check_settings(job: Job) -> None:
    """Refuse what would be shown or asked in every row alike.

    Raises:
        NasAlignError: a scenario or examples are set, or there are several processes.
    """
    given = job.given_settings
    if given.scenario != "plain":
        raise NasAlignError("Rows are compared on Prompt I, so compare takes scenario=plain.")
    if given.shots:
        raise NasAlignError(
            "Examples are shown in a row of their own; leave out the setting shots."
        )
    if processes.count() > 1:
        raise NasAlignError("Rows are timed in one process; start nasalign without a launcher.")


def _rows(
    job: Job, measure: RowMeasurement, wanted: set[str], workers: int | None, tracker: Tracker
) -> list[dict[str, Any]]:
    """Measure the rows that are wanted and not there yet; return all, in their order."""
    run = measure.session.run
    done = {}
    for rival in RIVALS:
        path = run.reusable(f"{FOLDER}/{rival.name}.json")
        if path:
            done[rival.name] = dict(read_json(path))
    if UNTOUCHED.name in done and not measure.has_untouched:
        del done[UNTOUCHED.name]
    todo = [one for one in RIVALS if one.name in wanted and one.name not in done]
    if run.folder:
        make_subfolder(run.folder / FOLDER)
        make_subfolder(run.folder / "eval")
    with run.stage("rows", "Rows", len(todo)) as step:
        for measured in _measured(job, measure, todo, workers):
            row = measured.row
            done[row["name"]] = row
            _tell(run, row)
            tracker.log(_tracked_figures(row))
            if run.folder and not row["error"]:
                _keep(run.folder, measured)
            step(1)
    return [done[rival.name] for rival in RIVALS if rival.name in done]


def _measured(
    job: Job, measure: RowMeasurement, todo: Sequence[Rival], workers: int | None
) -> Iterator[Measured]:
    """Measure rows, that of the untouched model first."""
    alone = [one for one in todo if one is UNTOUCHED]
    for rival in alone:
        yield measure.row(rival)
    rest = todo[len(alone) :]
    count = workers_for(job, measure, len(rest)) if workers is None else min(workers, len(rest))
    if count < 2:
        yield from map(measure.row, rest)
        return
    measure.session.run.say(f"{count} rows are measured at once, each by a process of its own.")
    yield from measured_by(count, job, measure, rest)


def _keep(folder: Path, measured: Measured) -> None:
    """Write a row and its answers."""
    name = measured.row["name"]
    for data, answers in measured.answers.items():
        path = folder / answers_path(data, name)
        write_jsonl(path, answers)
        seal(path)
    write_json(folder / FOLDER / f"{name}.json", measured.row)
    seal(folder / FOLDER / f"{name}.json")


def _tracked_figures(row: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a row by the names under which they are tracked; none of one with an error."""
    found = {
        f"{row['name']}/{data}/{name}": figure[0]
        for data, part in row.get("datasets", {}).items()
        for name, figure in part["figures"].items()
        if figure
    }
    costs = row.get("cost", {})
    return found | {f"{row['name']}/{name}": value for name, value in costs.items()}


def _tell(run: Run, row: Mapping[str, Any]) -> None:
    """Say how a row went.

    Raises:
        DataError: it is that of the untouched model, and could not be had.
    """
    if row["error"]:
        run.say(f"{row['name']}: {row['error']}")
        if row["name"] == UNTOUCHED.name:
            raise DataError(row["error"])
        return
    accuracies = (
        f"{number(part['figures']['accuracy'][0])} on {name}"
        for name, part in row["datasets"].items()
    )
    seconds = rounded(row["cost"]["seconds_to_fit"], 1)
    run.say(f"{row['name']}: accuracy {', '.join(accuracies)}; {seconds} s to fit.")


def _about(examples: Sequence[BinaryExample]) -> dict[str, Any]:
    return {
        "n": len(examples),
        "questions": len({example.question for example in examples}),
        "positives": fmean(example.known_label for example in examples),
    }
