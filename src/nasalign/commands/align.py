"""Aligning a model, with its evaluation before and after."""

from collections.abc import Sequence
from typing import Any

from nasalign.adapters.adapter_file import CONFIG
from nasalign.alignment import align
from nasalign.commands.attention import write_attention
from nasalign.commands.diagnose import diagnosis
from nasalign.commands.job import Job, alone_in_its_folder
from nasalign.errors import NasAlignError, NothingToFixError
from nasalign.evaluation.examples import Bench, without_evidence
from nasalign.evaluation.free_answers import side_effects
from nasalign.io.storage import remove_folder, seal
from nasalign.reporting.report import write_report


@alone_in_its_folder
def align_job(job: Job, further: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Aligns a model and evaluates it before and after; writes the run directory.

    Args:
        job: the model, the data, the settings and the run directory.
        further: data to evaluate on as well: files or named data sets.

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
    splits, run = job.splits(), job.run
    run.reporter.say(splits.sentence)
    more = job.further(splits, further)
    model, tokenizer, settings = job.open()
    if "compare" in run.facts:
        raise NasAlignError(f"The run in {run.folder} is a comparison; take another --out.")
    bench = Bench(model, tokenizer, settings, run)
    records, binary = bench.examples(splits.name, splits.test, splits.pool)
    sets = {splits.name: binary.examples}
    for name, about in more.items():
        sets[name] = bench.examples(name, *about)[1].examples

    shots = bench.shots(splits)
    before = bench.evaluate(sets, shots, "before")
    figures = (settings.bootstrap_samples, settings.seed)
    try:
        probing = without_evidence(splits.probing)
        result = align(model, tokenizer, probing, run=run, preset=settings)
    except NothingToFixError:
        job.write("diagnosis.json", diagnosis(before[splits.name], [], settings))
        if run.folder:
            write_report(run.folder)
        raise
    if run.folder and result.adapter.after:
        place = run.folder / "adapter"
        if not (place / CONFIG).exists():
            remove_folder(place)  # whatever it is, it is in the run's own folder
        result.adapter.save(place, job.model)
    after = bench.evaluate(sets, shots, "after")
    effects = side_effects(bench, result.adapter, splits, records)
    write_attention(bench, result, shots, before[splits.name], after[splits.name])

    table = {
        name: {"before": before[name].metrics(*figures), "after": after[name].metrics(*figures)}
        for name in sets
    }
    run.facts["adapter"] = {
        "heads_kept": len(result.kept),
        "parameters": result.adapter.parameters,
    }
    run.save()
    job.write("metrics.json", {"datasets": table})  # the last: with it the run is complete
    if run.folder:
        seal(run.folder / "metrics.json")
        remove_folder(run.folder / "checkpoint")
        write_report(run.folder)
    changes = {name: before[name].change_to(after[name], *figures) for name in sets}
    return {"datasets": table, "changes": changes, "side_effects": effects}
