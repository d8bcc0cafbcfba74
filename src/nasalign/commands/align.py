"""``nasalign align``: correct a model, with its evaluation before and after."""

from dataclasses import replace
from typing import Annotated, Any, Literal

import typer

from nasalign.adapters.scaling import Calibration
from nasalign.alignment import AlignResult, correct
from nasalign.commands.app import command
from nasalign.commands.budget import fit_to_budget, parse_budget
from nasalign.commands.diagnose import diagnosis
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
from nasalign.commands.plain_threshold import fit_threshold
from nasalign.errors import NasAlignError, NothingToFixError
from nasalign.evaluation.attention_record import heads_to_show, record_attention
from nasalign.evaluation.evaluation import Evaluation
from nasalign.evaluation.examples import (
    evaluate_sets,
    example_sets,
    without_evidence,
)
from nasalign.evaluation.free_answers import side_effects
from nasalign.evaluation.held_back import fit_calibration, held_back_examples, held_back_odds
from nasalign.evaluation.reliability import calibration_facts
from nasalign.evaluation.shots import few_shots
from nasalign.io.storage import remove_folder, seal
from nasalign.models import processes
from nasalign.models.merging import CONFIG
from nasalign.reporting.console_tables import change_table, print_verdict
from nasalign.reporting.report import write_report
from nasalign.reporting.report.story import verdict_of
from nasalign.session import Session
from nasalign.tracking import TrackerName


@grouped
def align(
    model: Model,
    data: DataOptions,
    out: OutOptions,
    settings: SettingOptions,
    load: LoadOptions,
    further: Further = None,
    method: Annotated[
        Literal["nasa", "nasa+"] | None,
        typer.Option(
            help="nasa: head by head, as in the paper; nasa+: ours, all heads together on right "
            "and wrong answers. By the settings unless given."
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Time that the run may take, such as 20m or 2h, to which its counts are lowered; "
            "none: as long as it takes. 15m on a CPU unless given.",
        ),
    ] = None,
    track: Track = None,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Find the heads that say No, retune them, and show before and after.

    The run directory is runs/MODEL unless --out names another.
    """
    with command(as_json) as (console, emit):
        folder = out.out or run_folder(model)
        job = Job.of(
            console,
            "align",
            model,
            data=data,
            load=load,
            settings=settings,
            out=replace(out, out=folder),
            further=further or [],
            shortcuts={"method": method, "budget_minutes": budget and parse_budget(budget)},
            resume=resume,
        )
        result = align_job(job, track)
        if processes.is_first():
            print_verdict(console, verdict_of(folder))
        for name, sides in result["datasets"].items():
            title = f"{name}, {sides['before']['n']} test examples"
            change = result["changes"][name]
            console.print(change_table(title, sides["before"], sides["after"], change))
        console.print(f"The report is {folder / 'report.html'}; it opens in any browser.")
        adapter = folder / "adapter"
        if adapter.is_dir():
            console.print(f"The adapter is in {adapter}; all else of the run is beside it.")
            console.print(f"Try it: nasalign ask {model} QUESTION --adapter {folder}")
        else:
            console.print(f"No head was kept, so there is no adapter; {folder} says why.")
        emit(result | {"run": str(folder)})


def align_job(job: Job, track: TrackerName | None = None) -> dict[str, dict[str, Any]]:
    """Align a model and evaluate it before and after; write the run directory.

    Args:
        job: the model, the data, the settings and the run directory.
        track: the package that metrics and charts are logged with, if any.

    Returns:
        The content of ``metrics.json``; under ``changes`` each metric's change by data set, and
        under ``side_effects`` the content of ``side_effects.json``.

    Raises:
        NothingToFixError: the model makes no mistake that could be corrected; the diagnosis is
            written.
        NasAlignError: the model, the data, a setting or the folder does not fit.
    """
    if job.given_settings.scenario != "plain":
        raise NasAlignError(
            "Heads are tuned on Prompt I, so align takes scenario=plain; evaluate takes others, "
            "and with --adapter what align has made."
        )
    with job.locked(), job.tracked(track) as tracker:
        splits, run = job.splits(), job.run
        run.say(splits.sentence)
        more = job.run_data.further(splits, job.further)
        session = job.session()
        shots = few_shots(session, splits)
        session, in_time = fit_to_budget(session, splits, more, shots, job.changes)
        records, sets = example_sets(session, splits, more, shots)

        before = evaluate_sets(session, sets, shots, "before")
        held = held_back_examples(session, splits, sets, shots)
        odds = held_back_odds(session, held, shots, "before")
        fit_threshold(run, odds, held)
        try:
            result = correct(session, without_evidence(splits.probing), tracker.watching(in_time))
        except NothingToFixError:
            settings = session.settings
            run.write("diagnosis.json", diagnosis(before[splits.name], [], settings))
            if run.folder:
                write_report(run.folder)
            raise
        aligned_odds = held_back_odds(session, held, shots, "after")
        scaling = fit_calibration(session, held, odds, aligned_odds, splits.probing_name)
        _save_adapter(job, result, scaling)
        after = evaluate_sets(session, sets, shots, "after")
        effects = side_effects(session, result.adapter, splits, records)
        heads = heads_to_show(result.kept, result.heads)
        sides = before[splits.name], after[splits.name]
        record_attention(session, result.adapter, heads, shots, *sides)
        metrics = _metrics(session, before, after, scaling)
        found = _finish(session, metrics, before, after, result) | {"side_effects": effects}
        tracker.results(found["datasets"], run.folder)
        return found


def _save_adapter(job: Job, result: AlignResult, calibration: Calibration | None) -> None:
    """Write the adapter into the run directory with its calibration, in place of any other."""
    if job.run.folder and result.adapter.after:
        place = job.run.folder / "adapter"
        if not (place / CONFIG).exists():
            remove_folder(place)  # whatever it is, it is in the run's own folder
        result.adapter.save(place, job.model, calibration)


def _metrics(
    session: Session,
    before: dict[str, Evaluation],
    after: dict[str, Evaluation],
    calibration: Calibration | None,
) -> dict[str, Any]:
    """The content of ``metrics.json``."""
    figures = session.settings.bootstrap_samples, session.settings.seed
    table = {
        name: {"before": before[name].metrics(*figures), "after": after[name].metrics(*figures)}
        for name in before
    }
    fitted = calibration and calibration_facts(calibration, before, after, *figures)
    return {"datasets": table, "calibration": fitted}


def _finish(
    session: Session,
    metrics: dict[str, Any],
    before: dict[str, Evaluation],
    after: dict[str, Evaluation],
    result: AlignResult,
) -> dict[str, Any]:
    """Write the metrics and the report; with the metrics the run is complete."""
    run, figures = session.run, (session.settings.bootstrap_samples, session.settings.seed)
    kept, parameters = len(result.kept), result.adapter.parameters
    run.facts["adapter"] = {"heads_kept": kept, "parameters": parameters}
    run.save()
    run.write("metrics.json", metrics)
    if run.folder:
        seal(run.folder / "metrics.json")
        remove_folder(run.folder / "checkpoint")
        write_report(run.folder)
    changes = {name: before[name].change_to(after[name], *figures) for name in before}
    return metrics | {"changes": changes}
