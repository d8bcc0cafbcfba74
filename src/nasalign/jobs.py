"""Whole jobs behind the commands: what to load, what to run, what to leave behind."""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.alignment.adapter import load_adapter
from nasalign.config import Settings
from nasalign.data.binary import sample, to_binary
from nasalign.data.qa import BinaryExample, Question, load_facts, load_file, split_of
from nasalign.errors import DataError, NasAlignError, NothingToFixError
from nasalign.evaluation.evaluate import Evaluation, run_evaluation
from nasalign.files import read_json, write_json, write_jsonl
from nasalign.models.loading import load
from nasalign.nas.heads import Head, model_nas
from nasalign.nas.scoring import score
from nasalign.pipeline import Run, align, choose_heads, describe, open_folder, probe, settings_for


@dataclass(frozen=True)
class ModelSource:
    """What to load and how; see ``models.loading.load``."""

    name: str
    device: str | None = None
    dtype: str | None = None
    trust_remote_code: bool = False

    def load(self, run: Run) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Loads the model and says where it is and in which dtype."""
        with run.timed("loading"):
            model, tokenizer = load(
                self.name,
                device=self.device,
                dtype=self.dtype,
                trust_remote_code=self.trust_remote_code,
            )
        run.facts |= describe(model, tokenizer)
        run.facts["model"]["source"] = self.name
        run.reporter.say(
            f"{self.name}: {type(model).__name__}, {model.num_parameters() / 1e6:.0f} million "
            f"parameters, {run.facts['model']['dtype']} on {model.device}."
        )
        return model, tokenizer


@dataclass(frozen=True)
class Splits:
    """Questions by split; no subject is in two of them."""

    name: str
    probing: list[Question]
    test: list[Question | BinaryExample]
    pool: list[Question]

    @classmethod
    def of(cls, data: str) -> "Splits":
        """Reads ``facts`` or a file and splits it by subject.

        Raises:
            DataError: there is no such data, or it is broken.
        """
        if data == "facts":
            return cls("facts", load_facts("probing"), list(load_facts("test")), load_facts())
        path = Path(data)
        if not path.suffix:
            raise DataError(f"There is no data {data!r}: it is neither facts nor a file.")
        records = load_file(path)
        questions = [record for record in records if isinstance(record, Question)]
        return cls(
            path.stem,
            [question for question in questions if split_of(question.subject) == "probing"],
            [
                record
                for record in records
                if isinstance(record, BinaryExample) or split_of(record.subject) == "test"
            ],
            questions,
        )

    def test_examples(self, settings: Settings) -> list[BinaryExample]:
        """Returns the test questions as yes/no examples."""
        chosen = sample(self.test, settings.evaluation_questions, settings.seed)
        return to_binary(chosen, settings.seed, self.pool)

    def shots(self, settings: Settings) -> list[BinaryExample]:
        """Returns the few-shot examples, of the probing split, right and wrong in turn."""
        chosen = sample(self.probing, -(-settings.shots // 2), settings.seed)
        return to_binary(chosen, settings.seed, self.pool)[: settings.shots]


def align_job(
    source: ModelSource,
    data: str,
    further: Sequence[Path],
    folder: Path,
    overwrite: bool,
    preset: Settings | None,
    changes: Mapping[str, Any],
    run: Run,
) -> dict[str, dict[str, Any]]:
    """Aligns a model and evaluates it before and after; writes the run directory.

    Returns:
        The content of ``metrics.json``, and under ``changes`` each metric's change by data set.

    Raises:
        NothingToFixError: the model denies nothing that it knows; the diagnosis is written.
        NasAlignError: the model, the data, a setting or the folder does not fit.
    """
    splits = Splits.of(data)
    open_folder(folder, overwrite)
    run.folder = folder
    model, tokenizer = source.load(run)
    settings = settings_for(model, preset, dict(changes))
    sets = _evaluation_sets(splits, further, settings)
    run.facts |= {"data": data, "settings": settings.as_dict()}

    before = _evaluate_all(model, tokenizer, sets, splits, settings, run, "before")
    try:
        result = align(model, tokenizer, splits.probing, run=run, preset=settings)
    except NothingToFixError:
        metrics = before[splits.name].metrics(settings.bootstrap_samples, settings.seed)
        write_json(folder / "diagnosis.json", {"sentence": _lean(metrics), "metrics": metrics})
        raise
    if result.adapter.after:
        result.adapter.save(folder / "adapter", model.name_or_path)
    after = _evaluate_all(model, tokenizer, sets, splits, settings, run, "after")

    table, differences = {}, {}
    for name in sets:
        arguments = (settings.bootstrap_samples, settings.seed)
        table[name] = {
            "before": before[name].metrics(*arguments),
            "after": after[name].metrics(*arguments),
        }
        differences[name] = before[name].change_to(after[name], *arguments)
    write_json(folder / "metrics.json", {"datasets": table})
    run.facts["adapter"] = {
        "heads": len({(r.layer, r.head) for r in result.history if getattr(r, "kept", False)}),
        "parameters": result.adapter.parameters,
    }
    run.save()
    return {"datasets": table, "changes": differences}


def diagnose_job(
    source: ModelSource,
    data: str,
    folder: Path | None,
    overwrite: bool,
    preset: Settings | None,
    changes: Mapping[str, Any],
    run: Run,
) -> dict[str, Any]:
    """Says which way a model leans on what it knows, and which heads have the highest NAS.

    Returns:
        ``sentence``, ``metrics`` on right and wrong answers to what it knows, and ``heads``.
    """
    splits = Splits.of(data)
    if folder:
        open_folder(folder, overwrite)
        run.folder = folder
    model, tokenizer = source.load(run)
    settings = settings_for(model, preset, dict(changes))
    run.facts |= {"data": data, "settings": settings.as_dict()}
    probing = probe(model, tokenizer, splits.probing, settings, run)
    heads = choose_heads(probing, settings, run)
    known = [item.question for item in probing.samples]
    known = sample(known, settings.evaluation_questions, settings.seed)
    examples = to_binary(known, settings.seed, splits.pool)
    with run.timed("diagnosis"), run.reporter.stage("Right and wrong answers", len(examples)) as at:
        evaluation = run_evaluation(
            model,
            tokenizer,
            examples,
            batch_size=settings.batch_size,
            vocabulary=settings.vocabulary,
            instruction=settings.instruction,
            chat=settings.chat,
            decoder=settings.decoder,
            progress=at,
        )
    metrics = evaluation.metrics(settings.bootstrap_samples, settings.seed)
    diagnosis = {
        "sentence": _lean(metrics),
        "metrics": metrics,
        "heads": [head._asdict() for head in heads],
    }
    if folder:
        write_json(folder / "diagnosis.json", diagnosis)
    run.save()
    return diagnosis


def evaluate_job(
    source: ModelSource,
    data: str,
    adapter: Path | None,
    folder: Path | None,
    overwrite: bool,
    preset: Settings | None,
    changes: Mapping[str, Any],
    run: Run,
) -> dict[str, Any]:
    """Evaluates a model, with an adapter if given, on the test split; returns the metrics."""
    splits = Splits.of(data)
    if folder:
        open_folder(folder, overwrite)
        run.folder = folder
    model, tokenizer = source.load(run)
    if adapter:
        load_adapter(adapter_folder(adapter), model).apply(model)
    settings = settings_for(model, preset, dict(changes))
    run.facts |= {"data": data, "settings": settings.as_dict(), "adapter": str(adapter or "")}
    sets = {splits.name: splits.test_examples(settings)}
    side = "after" if adapter else "before"
    evaluation = _evaluate_all(model, tokenizer, sets, splits, settings, run, side)[splits.name]
    metrics = evaluation.metrics(settings.bootstrap_samples, settings.seed)
    if folder:
        write_json(folder / "metrics.json", {"datasets": {splits.name: {side: metrics}}})
    run.save()
    return metrics


def ask_job(
    source: ModelSource,
    example: BinaryExample,
    adapter: Path | None,
    preset: Settings | None,
    changes: Mapping[str, Any],
    run: Run,
    top: int = 8,
) -> dict[str, dict[str, Any]]:
    """Asks one yes/no question, of the untouched model and, if given, of the aligned one.

    Returns:
        By ``untouched`` and ``aligned``: p_yes, p_no, verdict, nas, and the ``top`` heads by NAS.
    """
    model, tokenizer = source.load(run)
    settings = settings_for(model, preset, dict(changes))
    answers = {"untouched": _ask(model, tokenizer, example, settings, top)}
    if adapter:
        load_adapter(adapter_folder(adapter), model).apply(model)
        answers["aligned"] = _ask(model, tokenizer, example, settings, top)
    return answers


def export_job(folder: Path, target: Path, form: str, source: ModelSource, run: Run) -> Path:
    """Writes a run's result as a merged checkpoint or as a copy of its adapter.

    Args:
        folder: the run directory.
        target: a folder that is not there yet.
        form: ``"merged"`` or ``"adapter"``.
        source: the model; an empty name takes the run's own.
        run: whom to tell.

    Raises:
        NasAlignError: the run, its adapter or its model is not there, or the target is.
    """
    if target.exists():
        raise NasAlignError(f"The folder {target} is there already; choose another.")
    adapter = adapter_folder(folder)
    if form == "adapter":
        if not adapter.is_dir():
            raise NasAlignError(f"There is no adapter in {folder}.")
        shutil.copytree(adapter, target)
        return target
    name = source.name or read_json(folder / "run.json")["model"]["source"]
    model, tokenizer = ModelSource(
        name, source.device, source.dtype, source.trust_remote_code
    ).load(run)
    load_adapter(adapter, model).apply(model)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target


def adapter_folder(path: Path) -> Path:
    """Returns the adapter folder of a run directory, or the folder itself."""
    return path / "adapter" if (path / "run.json").exists() else path


def _ask(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    example: BinaryExample,
    settings: Settings,
    top: int,
) -> dict[str, Any]:
    scores = score(
        model,
        tokenizer,
        [example],
        vocabulary=settings.vocabulary,
        instruction=settings.instruction,
        chat=settings.chat,
        decoder=settings.decoder,
    )
    flat = scores.nas[0].flatten()
    order = flat.abs().argsort(descending=True)[:top].tolist()
    heads = scores.nas.shape[2]
    return {
        "p_yes": float(scores.p_positive[0]),
        "p_no": float(scores.p_negative[0]),
        "verdict": scores.verdicts[0],
        "nas": float(model_nas(scores.nas)[0]),
        "heads": [Head(at // heads, at % heads, float(flat[at]))._asdict() for at in order],
    }


def _evaluation_sets(
    splits: Splits, further: Sequence[Path], settings: Settings
) -> dict[str, list[BinaryExample]]:
    """Test examples by data set name."""
    sets = {splits.name: splits.test_examples(settings)}
    for path in further:
        records = sample(load_file(path), settings.evaluation_questions, settings.seed)
        name = path.stem if path.stem not in sets else f"{path.stem}-{len(sets)}"
        sets[name] = to_binary(records, settings.seed)
    for name, examples in sets.items():
        if not examples:
            raise DataError(f"{name} leaves no test question; give more rows or --eval.")
    return sets


def _evaluate_all(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sets: Mapping[str, list[BinaryExample]],
    splits: Splits,
    settings: Settings,
    run: Run,
    side: str,
) -> dict[str, Evaluation]:
    """Evaluates on each set; writes ``eval/NAME.SIDE.jsonl``."""
    evaluations = {}
    for name, examples in sets.items():
        title = f"Evaluating {side}: {name}"
        with run.timed(f"{side}/{name}"), run.reporter.stage(title, len(examples)) as done:
            evaluations[name] = run_evaluation(
                model,
                tokenizer,
                examples,
                batch_size=settings.batch_size,
                vocabulary=settings.vocabulary,
                instruction=settings.instruction,
                chat=settings.chat,
                shots=splits.shots(settings),
                decoder=settings.decoder,
                progress=done,
            )
        if run.folder:
            (run.folder / "eval").mkdir(exist_ok=True)
            write_jsonl(run.folder / "eval" / f"{name}.{side}.jsonl", evaluations[name].rows())
    return evaluations


def _lean(metrics: Mapping[str, Any]) -> str:
    """Which way a model leans on balanced questions, in one sentence."""
    low, high = metrics["intervals"]["yes_rate"]
    share = (
        f"{metrics['yes_rate']:.1%} of {metrics['n']} balanced questions "
        f"(95 % interval {low:.1%} to {high:.1%}; 50 % would be even)"
    )
    if high < 0.5:
        return f"The model leans to No: it affirms {share}, {0.5 - metrics['yes_rate']:.1%} short."
    if low > 0.5:
        return f"The model leans to Yes: it affirms {share}; nasalign corrects a lean to No only."
    if math.isclose(low, high) and metrics["n"] < 2:
        return f"Too few questions to say: the model affirms {share}."
    return f"No lean is measured, there is nothing to fix: the model affirms {share}."
