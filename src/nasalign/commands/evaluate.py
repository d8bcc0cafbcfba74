"""Evaluating a model, with an adapter if there is one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasalign.adapters.adapter import load_adapter
from nasalign.commands.harness import check_task, write_task
from nasalign.commands.job import Job, alone_in_its_folder
from nasalign.config import Scenario
from nasalign.data.records import BinaryExample, Question, Record
from nasalign.data.splits import Splits
from nasalign.errors import DataError
from nasalign.evaluation.evaluation import Evaluation
from nasalign.evaluation.examples import Bench, settled
from nasalign.io.files import read_jsonl
from nasalign.io.storage import check_no_links
from nasalign.nasa.knowledge import Parametric, confident
from nasalign.nasa.stages import ask_what_it_knows
from nasalign.reporting.report import write_report
from nasalign.run_file import as_written, read_run


@alone_in_its_folder
def evaluate_job(
    job: Job, adapter: Path | None, knowledge: bool = False, harness_out: Path | None = None
) -> dict[str, Any]:
    """Evaluates a model, with an adapter if given; returns the metrics.

    Args:
        job: the model, the data, and the run directory if one is to be written.
        adapter: a run directory or an adapter folder.
        knowledge: whether to ask each question by Prompt II too, and to give the metrics for what
            the model answers rightly, wrongly and not at all (Appendix G), under ``knowledge``.
        harness_out: a folder in which to leave the examples as a task of lm-evaluation-harness;
            what ``write_task`` returns is under ``harness``.

    Raises:
        NasAlignError: the model, the data or the adapter does not fit, or the evaluation would
            take in what the adapter was tuned on.
    """
    if harness_out:
        check_task(job.given_settings)
    sitting = prepare(job, adapter, knowledge)
    name, settings = sitting.splits.name, sitting.bench.settings
    examples = sitting.examples[settings.scenario]
    applied, task = adapter_folder(adapter) if adapter else None, None
    if harness_out:
        bench, splits = sitting.bench, sitting.splits
        task = write_task(bench, splits, examples, harness_out, job.overwrite, applied)
    evaluation = sitting.evaluate(settings.scenario, name)
    figures = (settings.bootstrap_samples, settings.seed)
    metrics = evaluation.metrics(*figures)
    if knowledge:
        parts = sitting.by_knowledge(evaluation)
        metrics["knowledge"] = {kind: part.metrics(*figures) for kind, part in parts.items()}
    if task:
        metrics["harness"] = task
    job.write("metrics.json", {"datasets": {name: {sitting.side: metrics}}})
    job.run.save()
    if job.run.folder:
        write_report(job.run.folder)
    return metrics


@dataclass(frozen=True)
class Sitting:
    """A model before an evaluation, with all that it is going to be asked.

    Attributes:
        bench: the model, with its adapter if there is one, and the settings.
        splits: the data.
        examples: as each scenario asks them; N of each.
        origins: index of the question that each of the N is from.
        samples: what the untouched model knows of the questions; empty unless asked for.
        side: ``before``, or ``after`` with an adapter.
    """

    bench: Bench
    splits: Splits
    examples: dict[Scenario, list[BinaryExample]]
    origins: list[int]
    samples: list[Parametric]
    side: str

    def evaluate(self, scenario: Scenario, name: str) -> Evaluation:
        """Evaluates in a scenario; writes ``eval/NAME.SIDE.jsonl``."""
        bench = self.bench.asking(scenario)
        shots = bench.shots(self.splits)
        marks = _marks(self.samples, self.origins) if self.samples else None
        return bench.evaluate({name: self.examples[scenario]}, shots, self.side, marks)[name]

    def by_knowledge(self, evaluation: Evaluation) -> dict[str, Evaluation]:
        """Returns the evaluation by what the model knows of the questions."""
        kinds = [self.samples[origin].knowledge for origin in self.origins]
        return {
            kind: evaluation.of([index for index, mine in enumerate(kinds) if mine == kind])
            for kind in ("Det-T", "Det-F", "Non-Det", "unclear")
            if kind in kinds
        }


def prepare(
    job: Job, adapter: Path | None, knowledge: bool, scenarios: Sequence[Scenario] = ()
) -> Sitting:
    """Opens the model, makes the examples, and asks what it knows if that is wanted.

    Args:
        job: see ``evaluate_job``, as the next two.
        adapter: applied after the model was asked what it knows.
        knowledge: whether it is asked.
        scenarios: in which the examples will be asked; in the settings' own unless given.

    Raises:
        NasAlignError: something does not fit; nothing has been asked then.
    """
    splits, run = job.splits(probed=False), job.run
    if adapter:
        splits = _unseen(job, splits, adapter)
    model, tokenizer, settings = job.open()
    asked = list(dict.fromkeys(scenarios)) or [settings.scenario]
    bench = Bench(model, tokenizer, settled(settings, job.changes, asked, run), run)
    records, binary = bench.asking(_longest(asked)).examples(splits.name, splits.test, splits.pool)
    examples = {}
    for scenario in asked:
        own = bench.asking(scenario)
        examples[scenario] = own.in_scenario(splits.name, splits.test, binary)
        own.check(examples[scenario][0], own.shots(splits))
    samples = []
    if knowledge:  # of the untouched model, as in Appendix G
        questions = [as_question(record) for record in records]
        samples = ask_what_it_knows(model, tokenizer, questions, settings, run)
    if adapter:
        load_adapter(adapter_folder(adapter), model).apply(model)
    run.facts |= {"adapter": str(adapter or ""), "part": splits.part}
    side = "after" if adapter else "before"
    return Sitting(bench, splits, examples, binary.origins, samples, side)


def _longest(scenarios: Sequence[Scenario]) -> Scenario:
    """The scenario of longest prompts and answers: what fits the model in it fits in all."""
    order: tuple[Scenario, ...] = ("cot", "unsure", "negated")
    return next((scenario for scenario in order if scenario in scenarios), "plain")


def adapter_folder(path: Path) -> Path:
    """Returns the adapter folder of a run directory, or the folder itself.

    Raises:
        StorageError: the run directory holds a link.
    """
    return path / "adapter" if run_of(path) == path else path


def run_of(path: Path) -> Path | None:
    """Returns the run directory that a folder is, or whose adapter it is; None if there is none.

    Raises:
        StorageError: the run directory holds a link.
    """
    run = next((place for place in (path, path.parent) if (place / "run.json").exists()), None)
    if run:
        check_no_links(run)
    return run


def _unseen(job: Job, splits: Splits, adapter: Path) -> Splits:
    """Leaves out what an adapter's run has probed, whatever file it is in.

    Raises:
        DataError: all of the data would be evaluated, and the run has probed a part of the same; or
            nothing is left.
    """
    run = run_of(adapter)
    if not run:
        return splits
    facts = read_run(run)
    same = facts.get("probing_data") == splits.name
    if "digests" in facts and not splits.named:
        probed = facts["digests"].get(facts.get("probing_origin"))
        same = job.run.facts["digests"][job.run.facts["data_origin"]] == probed
    if same and splits.part == "all":
        raise DataError(
            f"The adapter {adapter} was tuned on a part of {splits.name}; evaluate it on the rest, "
            "with --split test."
        )
    path = run / "parametric.jsonl"
    with as_written(run):  # of questions that need a context, the answer tells which it is
        rows = read_jsonl(path) if path.exists() else []
        used = [Question(row["question"], row["answer"], context=row["answer"]) for row in rows]
    return job.apart(splits, used, "the adapter's run has probed it")


def as_question(record: Record) -> Question:
    """A record as a question for Prompt II; to a yes/no question the answer is yes or no."""
    if isinstance(record, Question):
        return record
    word = "Yes" if record.label else "No"
    if record.answer is None:
        asked = record.question
    else:
        asked = f"{record.question} Is the answer {record.answer}?"
    return Question(asked, word, record.context, (word.lower(), word.upper()), id=record.id)


def _marks(samples: Sequence[Parametric], origins: Sequence[int]) -> list[dict[str, Any]]:
    """What the model knows of each example's question, for its row."""
    sure = confident(samples)
    return [
        {
            "knowledge": samples[origin].knowledge,
            "prediction": samples[origin].prediction,
            "entropy": samples[origin].entropy,
            "confident": sure[origin],
        }
        for origin in origins
    ]
