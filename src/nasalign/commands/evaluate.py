"""``nasalign evaluate``: measure a model, with an adapter if there is one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from nasalign.adapters.adapter import load_adapter
from nasalign.commands.app import command
from nasalign.commands.harness import check_task, write_task
from nasalign.commands.job import Job
from nasalign.commands.options import (
    AdapterOf,
    AsJson,
    DataOptions,
    LoadOptions,
    Model,
    OutOptions,
    SettingOptions,
    grouped,
)
from nasalign.config import Scenario
from nasalign.data.records import BinaryExample, Question
from nasalign.data.splits import Splits
from nasalign.errors import DataError, NasAlignError
from nasalign.evaluation.evaluation import Evaluation
from nasalign.evaluation.examples import (
    as_question,
    as_scenario,
    evaluate_sets,
    few_shots,
    make_examples,
    with_decoder_for,
)
from nasalign.io.files import read_jsonl
from nasalign.nasa.knowledge import Parametric, ask_and_judge, confident
from nasalign.reporting.console_tables import knowledge_table, metrics_table, scenarios_table
from nasalign.reporting.report import write_report
from nasalign.run import adapter_folder, run_of
from nasalign.run_file import as_written, read_run
from nasalign.session import Session


@grouped
def evaluate(
    model: Model,
    data: DataOptions,
    out: OutOptions,
    settings: SettingOptions,
    load: LoadOptions,
    split: Annotated[
        Literal["auto", "test", "development", "all"] | None,
        typer.Option(help="Which subjects: auto takes all of a data set of the paper, else test."),
    ] = None,
    adapter: AdapterOf = None,
    decoder: Annotated[
        Literal["logits", "generate"] | None,
        typer.Option(help="logits compares probabilities; generate decodes greedily and parses."),
    ] = None,
    knowledge: Annotated[
        bool,
        typer.Option(
            "--knowledge", help="Also by what the model knows: it asks each question freely."
        ),
    ] = False,
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Ask the same examples in this scenario: plain, context, unsure, cot or negated; "
            "may be repeated, and gives one table.",
        ),
    ] = None,
    harness_out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Also write the same examples there as a task of lm_eval."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model, with an adapter if given, on data it was not tuned on."""
    with command(as_json) as (console, emit):
        if harness_out and scenario:
            raise NasAlignError(
                "A task of lm_eval asks in one scenario: take --set scenario=NAME in place of "
                "--scenario."
            )
        job = Job.of(
            console,
            "evaluate",
            model,
            data=data,
            load=load,
            settings=settings,
            out=out,
            shortcuts={"split": split, "decoder": decoder},
        )
        if scenario:
            result = scenarios_job(job, scenario, adapter, knowledge)
            title = f"{data.data}, {result['n']} examples, decoder {result['decoder']}"
            console.print(scenarios_table(title, result))
            emit(result)
            return
        metrics = evaluate_job(job, adapter, knowledge, harness_out)
        console.print(metrics_table(f"{data.data}, {metrics['n']} examples", metrics))
        if knowledge:
            console.print(knowledge_table(metrics["knowledge"]))
        if harness_out:
            job.run.say(f"The task is in {harness_out}; run it by: {metrics['harness']['command']}")
        emit(metrics)


def evaluate_job(
    job: Job, adapter: Path | None, knowledge: bool = False, harness_out: Path | None = None
) -> dict[str, Any]:
    """Evaluate a model, with an adapter if given; return the metrics.

    Args:
        job: the model, the data, and the run directory if one is to be written.
        adapter: a run directory or an adapter folder.
        knowledge: whether to ask each question by Prompt II too, and to give the metrics for what
            the model answers rightly, wrongly and not at all (Appendix G), under ``knowledge``.
        harness_out: where the same examples are written as a task of lm_eval; what was written is
            under ``harness``.

    Raises:
        NasAlignError: the model, the data or the adapter does not fit, or the evaluation would
            take in what the adapter was tuned on.
    """
    if harness_out:
        check_task(job.given_settings)
    with job.locked():
        asked = _prepare(job, adapter, knowledge)
        session, splits, settings = asked.session, asked.splits, asked.session.settings
        task = None
        if harness_out:
            applied = adapter_folder(adapter) if adapter else None
            examples, overwrite = asked.examples[settings.scenario], job.out.overwrite
            task = write_task(session, splits, examples, harness_out, overwrite, applied)
        evaluation = asked.evaluate(settings.scenario, splits.name)
        figures = (settings.bootstrap_samples, settings.seed)
        metrics = evaluation.metrics(*figures)
        if knowledge:
            parts = asked.by_knowledge(evaluation)
            metrics["knowledge"] = {kind: part.metrics(*figures) for kind, part in parts.items()}
        if task:
            metrics["harness"] = task
        job.run.write("metrics.json", {"datasets": {splits.name: {asked.side: metrics}}})
        _finish(job)
        return metrics


def scenarios_job(
    job: Job, scenarios: Sequence[str], adapter: Path | None, knowledge: bool = False
) -> dict[str, Any]:
    """Evaluate a model on the same examples in each scenario; write ``scenarios.json``.

    Returns:
        ``scenarios``: by name, ``all`` and ``by_knowledge`` (what the untouched model answers
        freely), each with the metrics and ``metrics.LEAN``; ``decoder``, ``judge`` and ``n``.

    Raises:
        NasAlignError: the model, the data, the adapter or a scenario does not fit; nothing has been
            asked then.
    """
    named = [job.given_settings.replace({"scenario": name}).scenario for name in scenarios]
    with job.locked():
        asked = _prepare(job, adapter, knowledge, named)
        settings = asked.session.settings
        figures = (settings.bootstrap_samples, settings.seed)
        found = {}
        for scenario in asked.examples:
            evaluation = asked.evaluate(scenario, f"{asked.splits.name}.{scenario}")
            invalid, n = evaluation.scores.verdicts.count("invalid"), len(evaluation.examples)
            if invalid:
                job.run.say(f"{scenario}: {invalid} of {n} answers are none of those allowed.")
            parts = asked.by_knowledge(evaluation) if knowledge else {}
            found[scenario] = {
                "all": _with_lean(evaluation, *figures),
                "by_knowledge": {kind: _with_lean(part, *figures) for kind, part in parts.items()},
            }
        result = {
            "scenarios": found,
            "decoder": settings.decoder,
            "judge": settings.judge,
            "n": len(asked.origins),
        }
        job.run.write("scenarios.json", result)
        _finish(job)
        return result


def _finish(job: Job) -> None:
    job.run.save()
    if job.run.folder:
        write_report(job.run.folder)


def _with_lean(evaluation: Evaluation, bootstrap_samples: int, seed: int) -> dict[str, Any]:
    metrics = evaluation.metrics(bootstrap_samples, seed)
    lean = evaluation.lean(bootstrap_samples, seed)
    return metrics | lean | {"intervals": metrics["intervals"] | lean["intervals"]}


@dataclass(frozen=True)
class Prepared:
    """A model with its examples in every scenario, before anything is asked.

    Attributes:
        session: the model, with its adapter if there is one.
        splits: the data.
        examples: N for each scenario.
        origins: index of the question of each example.
        samples: what the untouched model knows of the questions; empty unless asked for.
        side: ``before``, or ``after`` with an adapter.
    """

    session: Session
    splits: Splits
    examples: dict[Scenario, list[BinaryExample]]
    origins: list[int]
    samples: list[Parametric]
    side: str

    def evaluate(self, scenario: Scenario, name: str) -> Evaluation:
        """Evaluate in a scenario; write ``eval/NAME.SIDE.jsonl``."""
        session = self.session.with_settings(scenario=scenario)
        shots = few_shots(session, self.splits)
        marks = _marks(self.samples, self.origins) if self.samples else None
        return evaluate_sets(session, {name: self.examples[scenario]}, shots, self.side, marks)[
            name
        ]

    def by_knowledge(self, evaluation: Evaluation) -> dict[str, Evaluation]:
        """Return the evaluation by what the model knows of the questions."""
        kinds = [self.samples[origin].knowledge for origin in self.origins]
        return {
            kind: evaluation.of([index for index, mine in enumerate(kinds) if mine == kind])
            for kind in ("Det-T", "Det-F", "Non-Det", "unclear")
            if kind in kinds
        }


def _prepare(
    job: Job, adapter: Path | None, knowledge: bool, scenarios: Sequence[Scenario] = ()
) -> Prepared:
    """Load the model, make the examples, and ask what the model knows if that is wanted.

    The adapter is applied after the model was asked what it knows. The examples are asked in the
    settings' own scenario unless others are given.

    Raises:
        NasAlignError: something does not fit; nothing has been asked then.
    """
    splits, run = job.splits(probed=False), job.run
    if adapter:
        splits = _unseen(job, splits, adapter)
    session = job.session()
    asked = list(dict.fromkeys(scenarios)) or [session.settings.scenario]
    session = with_decoder_for(session, job.changes, asked)
    longest = session.with_settings(scenario=_longest(asked))
    records, binary = make_examples(longest, splits.name, splits.test, splits.pool)
    examples = {}
    for scenario in asked:
        own = session.with_settings(scenario=scenario)
        examples[scenario] = as_scenario(own, splits.name, splits.test, binary)
        # Renders one prompt, so that a fault shows before anything is asked.
        own.builder(few_shots(own, splits), scenario).binary(examples[scenario][0])
    samples = []
    if knowledge:  # of the untouched model, as in Appendix G
        samples = ask_and_judge(session, [as_question(record) for record in records])
    if adapter:
        load_adapter(adapter_folder(adapter), session.model).apply(session.model)
    run.facts["adapter"] = str(adapter or "")
    side = "after" if adapter else "before"
    return Prepared(session, splits, examples, binary.origins, samples, side)


def _longest(scenarios: Sequence[Scenario]) -> Scenario:
    """The scenario of the longest prompts and answers: what fits in it fits in all."""
    order: tuple[Scenario, ...] = ("cot", "unsure", "negated")
    return next((scenario for scenario in order if scenario in scenarios), "plain")


def _unseen(job: Job, splits: Splits, adapter: Path) -> Splits:
    """Leave out what an adapter's run has probed, whatever file it is in.

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
    return job.run_data.apart(splits, used, "the adapter's run has probed it")


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
