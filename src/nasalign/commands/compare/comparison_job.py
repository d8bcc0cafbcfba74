"""One table of ways to correct a model: same data, same splits, same decoder."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from nasalign.commands.compare.material import material_of
from nasalign.commands.compare.row import FOLDER, Measure
from nasalign.commands.job import Job, alone_in_its_folder
from nasalign.data.records import BinaryExample, Question, Record, load_facts, split_of
from nasalign.data.splits import Splits
from nasalign.errors import DataError, NasAlignError
from nasalign.evaluation.examples import Bench, without_evidence
from nasalign.evaluation.free_answers import FreeQuestions
from nasalign.io.files import read_json, write_json
from nasalign.io.storage import make_subfolder, seal, write_text
from nasalign.models import processes
from nasalign.nasa.stages import probe
from nasalign.reporting.comparison_table import as_csv
from nasalign.reporting.report import write_report
from nasalign.rivals.all import RIVALS
from nasalign.rivals.baselines import UNTOUCHED
from nasalign.rivals.rival import Rival

FILE, CSV_FILE = "comparison.json", "comparison.csv"


@alone_in_its_folder
def compare_job(job: Job, further: Sequence[str] = (), only: Sequence[str] = ()) -> dict[str, Any]:
    """Compares ways to correct a model; writes the run directory.

    A row that is done is in ``compare/NAME.json``; with ``resume`` it is not run again, and rows
    may be added.

    Args:
        job: the model, the data, the settings and the run directory.
        further: data to evaluate on as well: files or named data sets.
        only: names of the rows, all unless given; the untouched model is always one.

    Returns:
        The content of ``comparison.json``: ``datasets`` with ``n``, ``questions`` and the share of
        ``positives`` by name; ``rows``, each with its figures on every data set, its cost and its
        side effects, or with an ``error``.

    Raises:
        NasAlignError: the model, the data, a setting, a name or the folder does not fit.
    """
    wanted = _chosen(only)
    _check_settings(job)
    splits, run = job.splits(), job.run
    if splits.part == "development" and splits.same:
        raise NasAlignError(
            "Rows are chosen on the development split, so they cannot be compared on it; take "
            "split=test."
        )
    watched = [one for one in splits.probing_pool if split_of(one.subject) == "development"]
    splits = job.apart(
        splits, [*watched, *load_facts("probing")], "rows are fitted or chosen on it"
    )
    run.reporter.say(splits.sentence)
    more = job.further(splits, further)
    run.facts["compare"] = {}
    model, tokenizer, settings = job.open()
    if "compare" not in run.facts:
        raise NasAlignError(f"The run in {run.folder} is no comparison; take another --out.")
    model.requires_grad_(False).eval()
    bench = Bench(model, tokenizer, settings, run)
    records, sets = _sets(bench, splits, more)
    probing = probe(model, tokenizer, without_evidence(splits.probing), settings, run)
    material = material_of(bench, splits, probing)
    parts = {"same": material.same, "pairs": material.pairs, "development": material.development}
    run.facts["compare"] = {name: len(examples) for name, examples in parts.items()}
    run.facts["compare"]["shots"] = len(material.shots)
    run.save()
    asked = FreeQuestions.held_out(bench, splits, records)
    rows = _rows(Measure(bench, material, sets, asked), wanted)
    datasets = {name: _about(examples) for name, examples in sets.items()}
    result = {"datasets": datasets, "rows": rows, "decoder": settings.decoder}
    if run.folder:
        names = [row["name"] for row in rows]
        run.facts["compare"]["only"] = names if len(names) < len(RIVALS) else []
        run.save()
        write_json(run.folder / FILE, result)
        write_text(run.folder / CSV_FILE, as_csv(result))
        write_report(run.folder)
    return result


def _chosen(only: Sequence[str]) -> set[str]:
    """The names of the rows that are wanted.

    Raises:
        NasAlignError: there is no such row.
    """
    names = [rival.name for rival in RIVALS]
    for name in only:
        if name not in names:
            raise NasAlignError(f"There is no row {name!r}; the rows are {', '.join(names)}.")
    return {UNTOUCHED.name, *(only or names)}


def _check_settings(job: Job) -> None:
    """Refuses what would be shown or asked in every row alike.

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


def _sets(
    bench: Bench, splits: Splits, more: Mapping[str, tuple[list[Record], list[Question]]]
) -> tuple[list[Record], dict[str, list[BinaryExample]]]:
    """The records of the data, and the examples of each data set by its name."""
    records, binary = bench.examples(splits.name, splits.test, splits.pool)
    sets = {splits.name: binary.examples}
    for name, further in more.items():
        sets[name] = bench.examples(name, *further)[1].examples
    return records, sets


def _rows(measure: Measure, wanted: set[str]) -> list[dict[str, Any]]:
    """Measures the rows that are wanted and not there yet; returns all, in their order."""
    run = measure.bench.run
    done = {}
    for rival in RIVALS:
        left = run.left(f"{FOLDER}/{rival.name}.json")
        if left:
            done[rival.name] = dict(read_json(left))
    if UNTOUCHED.name in done and not measure.has_untouched:
        del done[UNTOUCHED.name]
    todo = [one for one in RIVALS if one.name in wanted and one.name not in done]
    if run.folder:
        make_subfolder(run.folder / FOLDER)
    with run.stage("rows", "Rows", len(todo)) as step:
        for rival in todo:
            done[rival.name] = row = _row(measure, rival)
            if run.folder and not row["error"]:
                write_json(run.folder / FOLDER / f"{rival.name}.json", row)
                seal(run.folder / FOLDER / f"{rival.name}.json")
            step(1)
    return [done[rival.name] for rival in RIVALS if rival.name in done]


def _row(measure: Measure, rival: Rival) -> dict[str, Any]:
    """Measures a row and says how it went.

    Raises:
        DataError: it is that of the untouched model, and could not be had.
    """
    row, say = measure.row(rival), measure.bench.run.reporter.say
    if row["error"]:
        say(f"{rival.name}: {row['error']}")
        if rival is UNTOUCHED:
            raise DataError(row["error"])
        return row
    accuracies = (
        f"{part['figures']['accuracy'][0]:.3f} on {name}" for name, part in row["datasets"].items()
    )
    seconds = row["cost"]["seconds_to_fit"]
    say(f"{rival.name}: accuracy {', '.join(accuracies)}; {seconds:.1f} s to fit.")
    return row


def _about(examples: Sequence[BinaryExample]) -> dict[str, Any]:
    return {
        "n": len(examples),
        "questions": len({example.question for example in examples}),
        "positives": fmean(example.label for example in examples),
    }
