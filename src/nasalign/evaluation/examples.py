"""From the records of a data set to yes/no examples for one model, and their evaluation."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch

from nasalign.config import Scenario
from nasalign.data.binary import Binary, sample, to_binary
from nasalign.data.records import BinaryExample, Question, Record
from nasalign.data.splits import Splits, with_context
from nasalign.errors import DataError, ModelError, NasAlignError
from nasalign.evaluation.evaluation import Evaluation, run_evaluation
from nasalign.evaluation.metrics import LOW_COVERAGE, low_coverage
from nasalign.evaluation.prompt_fit import fits, fitting
from nasalign.evaluation.run_data import Further
from nasalign.io.files import read_jsonl, write_jsonl
from nasalign.prompts.scenarios import evidence_of, in_scenario
from nasalign.session import Session


def make_examples(
    session: Session,
    name: str,
    records: Sequence[Record],
    pool: Sequence[Question],
    shots: Sequence[BinaryExample] = (),
) -> tuple[list[Record], Binary]:
    """Sample the records to evaluate and make yes/no examples of them, in the scenario ``plain``.

    Args:
        session: sizes, context, sides, generator and seed.
        name: of the data.
        records: questions and yes/no examples.
        pool: questions whose answers may serve as wrong ones.
        shots: few-shot examples, with which the prompts must fit the model.

    Returns:
        The sampled records with their context, and the examples of those whose prompts fit.

    Raises:
        DataError: no example is left.
        PromptError: no prompt fits the model, or one does not and the run is strict.
    """
    settings, run = session.settings, session.run
    chosen = sample(records, settings.size_of(name), settings.seed)
    # A prompt that cannot be made at all says nothing of the length of the others.
    chosen, mode = with_context(
        chosen, settings.context, lambda one: fits(session, one, shots, unmade=True)
    )
    if mode != settings.context and any(getattr(one, "brief", None) for one in chosen):
        run.say(f"{name}: {mode} of the context is given.")
    binary = write_examples(session, f"examples/{name}", chosen, pool, settings.sides)
    run.drop(binary.dropped, name)
    binary = fitting(session, name, chosen, binary, shots)
    run.facts.setdefault("examples", {})[name] = {
        "context": mode,
        "generator": settings.generator,
        "sides": settings.sides,
        "task": ", ".join(binary.tasks),
        "n": len(binary.examples),
    }
    if not binary.examples:
        raise DataError(f"{name} leaves no test question; give more rows.")
    return chosen, binary


def example_sets(
    session: Session,
    splits: Splits,
    further: Further,
    shots: Sequence[BinaryExample] = (),
) -> tuple[list[Record], dict[str, list[BinaryExample]]]:
    """Return the evaluated records of the data, and the examples of every data set by its name.

    Raises:
        DataError: a data set leaves no example.
    """
    records, binary = make_examples(session, splits.name, splits.test, splits.pool, shots)
    sets = {splits.name: binary.examples}
    for name, about in further.items():
        sets[name] = make_examples(session, name, *about, shots)[1].examples
    return records, sets


def write_examples(
    session: Session, stage: str, records: Sequence[Record], pool: Sequence[Question], sides: str
) -> Binary:
    """Turn records into yes/no examples, with wrong answers by the generator of the settings."""
    generator = session.chat(session.settings.generator)
    with session.asking(stage, "Writing questions", len(records), generator) as done:
        return to_binary(
            records,
            session.settings.seed,
            pool,
            sides="both" if sides == "both" else "one",
            generator=generator,
            progress=done,
        )


def as_scenario(
    session: Session, name: str, records: Sequence[Record], binary: Binary
) -> list[BinaryExample]:
    """Return examples as the scenario of the settings asks them.

    Args:
        session: its settings sampled the records.
        name: of the data.
        records: those that ``make_examples`` was given, with all of their context.
        binary: the examples that it made.

    Raises:
        DataError: the data does not allow the scenario.
    """
    settings = session.settings
    if binary.tasks == ("rewritten questions",) and settings.scenario == "context":
        session.run.say(f"{name}: each question contains its context, in every scenario.")
        return binary.examples
    # The same draw as in ``make_examples``, here with all of the context.
    drawn = sample(records, settings.size_of(name), settings.seed)
    evidence = [evidence_of(drawn[origin]) for origin in binary.origins]
    examples = in_scenario(binary.examples, settings.scenario, evidence, name)
    if settings.scenario == "context" and examples == binary.examples:
        session.run.say(
            f"{name}: the context is given in every scenario already; with context=none, it is "
            "given in the scenario context alone."
        )
    return examples


def evaluate_sets(
    session: Session,
    sets: Mapping[str, list[BinaryExample]],
    shots: Sequence[BinaryExample],
    side: str,
    marks: Sequence[dict[str, Any]] | None = None,
) -> dict[str, Evaluation]:
    """Evaluate on each data set; write ``eval/NAME.SIDE.jsonl``.

    Args:
        session: the model as it is now.
        sets: examples by the name of their data.
        shots: few-shot examples.
        side: ``before`` or ``after``.
        marks: further columns of each example's row.

    Raises:
        ModelError: the model gives NaN.
    """

    def one_set(name: str, examples: list[BinaryExample]) -> Evaluation:
        def make() -> Evaluation:
            title = f"Evaluating {side}: {name}"
            untouched = session.untouched() if side == "before" else nullcontext()
            stage = session.run.stage(f"{side}/{name}", title, len(examples))
            with untouched, stage as done:
                found = run_evaluation(
                    session.model, session.tokenizer, examples, session.settings, shots, done
                )
            _check_finite(session, name, found)
            _warn_of_coverage(session, f"{name} {side}", found)
            return found

        return session.run.cached(
            f"eval/{name}.{side}.jsonl",
            make,
            dump=lambda path, found: write_jsonl(path, _marked(found.rows(), marks)),
            load=lambda path: Evaluation.from_rows(examples, read_jsonl(path), name),
        )

    return {name: one_set(name, examples) for name, examples in sets.items()}


def _marked(
    rows: list[dict[str, Any]], marks: Sequence[dict[str, Any]] | None
) -> list[dict[str, Any]]:
    return [row | mark for row, mark in zip(rows, marks, strict=True)] if marks else rows


def _check_finite(session: Session, name: str, found: Evaluation) -> None:
    """Refuse the figures of a model whose activations overflow: NaN would compare as No."""
    if not found.scores.finite:
        dtype = session.model.dtype
        wider = "bfloat16 or float32" if dtype == torch.float16 else "float32"
        raise ModelError(
            f"The model gives no probabilities on {name} (they are NaN), so its numbers exceed "
            f"{str(dtype).removeprefix('torch.')}; try --dtype {wider}."
        )


def _warn_of_coverage(session: Session, what: str, found: Evaluation) -> None:
    """Say so if the answer words together have little probability, and note it in the run."""
    coverage = float(found.scores.coverage.mean())
    session.run.facts.setdefault("coverage", {})[what] = round(coverage, 4)
    if coverage < LOW_COVERAGE:
        session.run.say(low_coverage(coverage))


def with_decoder_for(
    session: Session, changes: Mapping[str, Any], scenarios: Sequence[Scenario]
) -> Session:
    """Return a session whose decoder serves all scenarios; say so if it changes.

    Args:
        session: the model and the settings.
        changes: settings that the user has given by name.
        scenarios: those in which examples will be asked.

    Raises:
        NasAlignError: the user asked for a decoder that cannot serve.
    """
    if "cot" not in scenarios or session.settings.decoder == "generate":
        return session
    if "decoder" in changes:
        raise NasAlignError(
            "A chain of thought has to be written out before it ends in an answer: for the "
            "scenario cot, leave out the decoder logits or take generate."
        )
    session.run.say("The scenario cot takes the decoder generate, so every scenario does.")
    session = session.with_settings(decoder="generate")
    session.run.facts["settings"] = session.settings.as_dict()
    return session


def without_evidence(records: Sequence[Record]) -> list[Record]:
    """Return records as they are probed: where the data marks evidence, it is not shown.

    The probing set is what the model knows without any context (Appendix E). A context without a
    marked part, such as the passage of AR-LSAT, is part of the question and stays.
    """
    return [
        replace(one, context=None) if isinstance(one, Question) and one.brief else one
        for one in records
    ]
