"""Running a written task through lm_eval on a model in memory. Only this module imports lm_eval."""

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from lm_eval import evaluator
from lm_eval.api import task as task_module
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.evaluation.evaluation import Evaluation
from nasalign.evaluation.metrics import Array
from nasalign.evaluation.ranking import log_odds
from nasalign.harness.answers import log_probabilities, verdict
from nasalign.harness.tasks import Task
from nasalign.inference.batches import halved
from nasalign.models.memory import explained
from nasalign.progress import Progress

LOGITS = 2**27
"""Logits of a batch at most, in float32 half a gibibyte: lm_eval keeps those of every token."""
FIGURES = {"acc": "accuracy", "f1": "f1", "yes_rate": "yes_rate"}
"""Metrics of a task, and what nasalign calls them."""


@dataclass(frozen=True)
class Outcome:
    """What lm_eval says of N documents.

    Attributes:
        figures: the task's metrics as lm_eval sums them up, by nasalign's names.
        verdicts: N verdicts, from its samples.
        log_odds: log P(positive word) - log P(negative word), from its samples, [N] float64.
    """

    figures: dict[str, float]
    verdicts: list[str]
    log_odds: Array

    def beside(self, evaluation: Evaluation) -> dict[str, Any]:
        """Returns how it compares with our evaluation of the same N examples, as plain values."""
        scores = evaluation.scores
        ours = log_odds(scores.p_positive, scores.p_negative)
        pairs = zip(scores.verdicts, self.verdicts, strict=True)
        return {
            "lm_eval": version("lm_eval"),
            "figures": self.figures,
            "different_verdicts": sum(mine != theirs for mine, theirs in pairs),
            "largest_difference_of_log_odds": float(np.abs(ours - self.log_odds).max()),
        }


def run_task(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    folder: Path,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Runs a task with lm_eval's wrapper of a model that is loaded.

    Args:
        model: the model; left as it was.
        tokenizer: its tokenizer; left as it was.
        task: what was written.
        folder: where.
        batch_size: prompts a batch; as many as ``LOGITS`` allows unless given.
        progress: told of each finished batch.

    Raises:
        OutOfMemoryError: memory does not hold a single prompt; larger batches are halved.
    """
    vocabulary = model.get_output_embeddings().weight.shape[0]
    size = batch_size or max(1, LOGITS // (task.longest * vocabulary))
    outcome: list[Outcome] = []

    def run() -> None:
        outcome.append(_run(model, tokenizer, task, folder, size))

    with _quiet(), _told(model, progress), explained("running lm_eval", model, task.longest):
        while halved(run, size):  # lm_eval begins again: it keeps nothing of a run that failed
            size = (size + 1) // 2
    return outcome[0]


def _run(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    folder: Path,
    batch_size: int,
) -> Outcome:
    """Runs a task by batches of a size; arguments as of ``run_task``."""
    wrapped = HFLM(
        pretrained=model,
        tokenizer=copy.deepcopy(tokenizer),  # it is given a token for padding
        add_bos_token=task.special,
        softmax_dtype="float32",
        max_length=task.longest + 1,  # so nothing is cut off
        batch_size=batch_size,
    )
    wrapped.loglikelihood = partial(wrapped.loglikelihood, disable_tqdm=True)
    result = evaluator.simple_evaluate(
        wrapped,
        tasks=[task.name],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
        log_samples=True,
        random_seed=None,  # nothing is drawn, so the process's own states are left alone
        numpy_random_seed=None,
        torch_random_seed=None,
    )
    return _outcome(result["results"][task.name], result["samples"][task.name])


def _outcome(figures: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> Outcome:
    verdicts, odds = [], []
    for sample in sorted(samples, key=lambda sample: sample["doc_id"]):
        said = sample["doc"], sample["filtered_resps"]
        positive, negative = log_probabilities(*said)[:2]
        verdicts.append(verdict(*said))
        odds.append(positive - negative)
    named = {name: float(figures[f"{metric},none"]) for metric, name in FIGURES.items()}
    return Outcome(named, verdicts, np.asarray(odds, dtype=np.float64))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps lm_eval silent, and from asking git and pip what they know of the machine.

    It has no option for either.
    """
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with (
            patch.object(task_module, "tqdm", partial(task_module.tqdm, disable=True)),
            patch.object(evaluator, "get_git_commit_hash", str),
            patch.object(evaluator, "add_env_info", id),
        ):
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _told(model: PreTrainedModel, progress: Progress | None) -> Iterator[None]:
    """Tells of each batch of prompts that the model has read."""

    def tell(module: object, inputs: Sequence[Any], output: Any) -> None:
        if progress:
            progress(output.logits.shape[0])

    hook = model.register_forward_hook(tell)
    try:
        yield
    finally:
        hook.remove()
