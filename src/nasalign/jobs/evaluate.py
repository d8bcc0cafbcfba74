"""Evaluating a model, with an adapter if there is one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nasalign.alignment.adapter import load_adapter
from nasalign.alignment.knowledge import Parametric, confident
from nasalign.data.qa import Question, Record
from nasalign.errors import DataError
from nasalign.evaluation.evaluate import Evaluation
from nasalign.files import read_json, write_jsonl
from nasalign.jobs.examples import Bench
from nasalign.jobs.job import Job
from nasalign.stages import ask_what_it_knows


def evaluate_job(job: Job, adapter: Path | None, knowledge: bool = False) -> dict[str, Any]:
    """Evaluates a model, with an adapter if given; returns the metrics.

    Args:
        job: the model, the data, and the run directory if one is to be written.
        adapter: a run directory or an adapter folder.
        knowledge: whether to ask each question by Prompt II too, and to give the metrics for what
            the model answers rightly, wrongly and not at all (Appendix G), under ``knowledge``.

    Raises:
        NasAlignError: the model, the data or the adapter does not fit, or the evaluation would
            take in what the adapter was tuned on.
    """
    splits, run = job.splits(probed=False), job.run
    if adapter and splits.part == "all":
        _check_unseen(adapter, splits.name)
    model, tokenizer, settings = job.open()
    bench = Bench(model, tokenizer, settings, run)
    name = splits.name
    records, binary = bench.examples(name, splits.test, splits.pool)
    samples = []
    if knowledge:  # of the untouched model, as in Appendix G
        questions = [_as_question(record) for record in records]
        samples = ask_what_it_knows(model, tokenizer, questions, settings, run)
    if adapter:
        load_adapter(adapter_folder(adapter), model).apply(model)
    run.facts |= {"adapter": str(adapter or ""), "part": splits.part}
    side = "after" if adapter else "before"
    evaluation = bench.evaluate({name: binary.examples}, bench.shots(splits), side)[name]
    figures = (settings.bootstrap_samples, settings.seed)
    metrics = evaluation.metrics(*figures)
    if knowledge:
        metrics["knowledge"] = _by_knowledge(evaluation, samples, binary.origins, *figures)
        if run.folder:
            rows = _marked(evaluation, samples, binary.origins)
            write_jsonl(run.folder / "eval" / f"{name}.{side}.jsonl", rows)
    job.write("metrics.json", {"datasets": {name: {side: metrics}}})
    run.save()
    return metrics


def adapter_folder(path: Path) -> Path:
    """Returns the adapter folder of a run directory, or the folder itself."""
    return path / "adapter" if (path / "run.json").exists() else path


def _check_unseen(adapter: Path, name: str) -> None:
    """Refuses to evaluate whole what an adapter was tuned on a part of."""
    run = next((path for path in (adapter, adapter.parent) if (path / "run.json").exists()), None)
    if run and read_json(run / "run.json").get("probing_data") == name:
        raise DataError(
            f"The adapter {adapter} was tuned on a part of {name}; evaluate it on the rest, with "
            "--split test."
        )


def _as_question(record: Record) -> Question:
    """A record as a question for Prompt II; to a yes/no question the answer is yes or no."""
    if isinstance(record, Question):
        return record
    word = "Yes" if record.label else "No"
    if record.answer is None:
        asked = record.question
    else:
        asked = f"{record.question} Is the answer {record.answer}?"
    return Question(asked, word, record.context, (word.lower(), word.upper()), id=record.id)


def _marked(
    evaluation: Evaluation, samples: Sequence[Parametric], origins: Sequence[int]
) -> list[dict[str, Any]]:
    """The rows of an evaluation, each with what the model knows of its question."""
    sure = confident(samples)
    return [
        row
        | {
            "knowledge": samples[origin].knowledge,
            "prediction": samples[origin].prediction,
            "entropy": samples[origin].entropy,
            "confident": sure[origin],
        }
        for row, origin in zip(evaluation.rows(), origins, strict=True)
    ]


def _by_knowledge(
    evaluation: Evaluation,
    samples: Sequence[Parametric],
    origins: Sequence[int],
    bootstrap_samples: int,
    seed: int,
) -> dict[str, Any]:
    """The metrics of the examples by what the model knows of their questions."""
    kinds = [samples[origin].knowledge for origin in origins]
    return {
        kind: evaluation.of([index for index, mine in enumerate(kinds) if mine == kind]).metrics(
            bootstrap_samples, seed
        )
        for kind in ("Det-T", "Det-F", "Non-Det", "unclear")
        if kind in kinds
    }
