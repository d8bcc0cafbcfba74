"""A model and its examples, ready to be evaluated in one or several scenarios."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nasalign.adapters.adapter import load_adapter
from nasalign.commands.job import Job
from nasalign.config import Scenario
from nasalign.data.binary import Binary
from nasalign.data.records import BinaryExample, Question, Record
from nasalign.data.splits import Splits, unseen
from nasalign.errors import DataError
from nasalign.evaluation.evaluation import Evaluation
from nasalign.evaluation.examples import (
    as_scenario,
    evaluate_sets,
    make_examples,
    with_decoder_for,
)
from nasalign.evaluation.prompt_fit import as_question, fitting
from nasalign.evaluation.shots import few_shots
from nasalign.io.files import read_jsonl
from nasalign.nasa.knowledge import LABELLED, Parametric, ask_and_judge, confident
from nasalign.run import adapter_folder, run_of
from nasalign.run_file import as_written, read_run
from nasalign.session import Session


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
        shots: few-shot examples for each scenario.
    """

    session: Session
    splits: Splits
    examples: dict[Scenario, list[BinaryExample]]
    origins: list[int]
    samples: list[Parametric]
    side: str
    shots: dict[Scenario, list[BinaryExample]]

    def evaluate(self, scenario: Scenario, name: str) -> Evaluation:
        """Evaluate in a scenario; write ``eval/NAME.SIDE.jsonl``."""
        session = self.session.with_settings(scenario=scenario)
        shots = self.shots[scenario]
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


def prepare(
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
    first = few_shots(longest, splits)
    records, binary = make_examples(longest, splits.name, splits.test, splits.pool, first)
    if knowledge or "context" in asked:
        binary = _fitting_also(longest, splits, records, binary, first, knowledge, asked)
    examples, shots = {}, {}
    for scenario in asked:
        own = session.with_settings(scenario=scenario)
        shots[scenario] = few_shots(own, splits)
        examples[scenario] = as_scenario(own, splits.name, splits.test, binary)
    samples, origins = [], binary.origins
    if knowledge:  # of the untouched model, as in Appendix G
        kept = sorted(set(origins))
        samples = ask_and_judge(session, [as_question(records[place]) for place in kept])
        origins = [kept.index(origin) for origin in origins]
    if adapter:
        load_adapter(adapter_folder(adapter), session.model).apply(session.model)
    run.facts["adapter"] = str(adapter or "")
    side = "after" if adapter else "before"
    return Prepared(session, splits, examples, origins, samples, side, shots)


def _fitting_also(
    session: Session,
    splits: Splits,
    records: Sequence[Record],
    binary: Binary,
    shots: Sequence[BinaryExample],
    knowledge: bool,
    asked: Sequence[Scenario],
) -> Binary:
    """The examples that fit with their evidence and by Prompt II too, where they are asked so."""
    given = binary
    if "context" in asked:
        session = session.with_settings(scenario="context")
        shots = few_shots(session, splits)
        given = replace(binary, examples=as_scenario(session, splits.name, splits.test, binary))
    fit = fitting(session, splits.name, records, given, shots, freely=knowledge)
    return binary.without(set(binary.origins) - set(fit.origins))


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
        used: list[Record] = [
            Question(row["question"], row["answer"], context=row["answer"]) for row in rows
        ]
        tuned = read_jsonl(run / LABELLED) if (run / LABELLED).exists() else []
        used += [
            BinaryExample(row["question"], row["label"], None, row["context"]) for row in tuned
        ]
    if splits.shown:
        shown, _ = unseen(splits.name, splits.shown, used)
        splits = replace(splits, shown=shown)
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
