"""Asking one question of the untouched model and of the aligned one."""

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.alignment.adapter import load_adapter
from nasalign.config import Settings
from nasalign.data.qa import BinaryExample
from nasalign.evaluation.evaluate import run_evaluation
from nasalign.jobs.evaluate import adapter_folder
from nasalign.jobs.job import Job
from nasalign.nas.heads import Head, model_nas


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
