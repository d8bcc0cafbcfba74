"""lm_eval, run on a task that was written, gives the verdicts and the figures of our evaluation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import tiny
from harness.material import examples, tokenizers
from nasalign.config import Settings
from nasalign.evaluation.evaluation import run_evaluation
from nasalign.evaluation.ranking import log_odds
from nasalign.harness.answers import log_probabilities, verdict
from nasalign.harness.tasks import Task
from nasalign.models.loading import load
from nasalign.prompts.builder import PromptBuilder

pytest.importorskip("lm_eval", reason="lm_eval is not installed: pip install lm_eval")
from lm_eval import evaluator
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """lm_eval asks git and pip about the machine, which takes seconds."""
    monkeypatch.setattr(evaluator, "add_env_info", id)
    monkeypatch.setattr(evaluator, "get_git_commit_hash", str)


def largest_gap(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: Settings,
    folder: Path,
    **changes: bool,
) -> float:
    """The largest difference of log odds; verdicts and figures are equal unless it is changed."""
    ours = run_evaluation(model, tokenizer, examples(), settings)
    builder = PromptBuilder.of(tokenizer, settings, (), settings.scenario)
    task = replace(Task.of("facts", ours.examples, builder), **changes)
    task.write(folder, "a test")
    special = {"add_bos_token": task.special, "softmax_dtype": "float32"}
    found = evaluator.simple_evaluate(
        HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8, **special),
        tasks=[task.name],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
    )
    samples = sorted(found["samples"][task.name], key=lambda sample: sample["doc_id"])
    said = [(sample["doc"], sample["filtered_resps"]) for sample in samples]
    odds = np.array([np.subtract(*log_probabilities(*one)[:2]) for one in said])
    assert np.ptp(odds) > 0.01  # the examples are told apart at all
    if not changes:
        assert [verdict(*one) for one in said] == ours.scores.verdicts
        metrics = ours.metrics(10)
        for theirs, name in (("acc", "accuracy"), ("f1", "f1"), ("yes_rate", "yes_rate")):
            figure = found["results"][task.name][f"{theirs},none"]
            assert figure == pytest.approx(metrics[name], abs=1e-12), name
    return float(np.abs(odds - log_odds(ours.scores.p_positive, ours.scores.p_negative)).max())


@pytest.mark.parametrize("name", tokenizers())
def test_however_a_prompt_begins(name: str, tmp_path: Path) -> None:
    model = tiny.build_model("llama", seed=3)
    assert largest_gap(model, tokenizers()[name], Settings(), tmp_path) < 1e-4


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {"scenario": "unsure"}),
        ("llama", {"scenario": "negated"}),
        ("llama", {"vocabulary": "true/false", "instruction": "B"}),
        ("mistral", {}),
        ("gemma2", {}),
        ("gpt_neox", {}),
    ],
    ids=str,
)
def test_however_it_is_asked(family: str, changes: dict, tmp_path: Path) -> None:
    model, tokenizer = tiny.build_model(family, seed=3), tiny.build_tokenizer(chat_template=False)
    assert largest_gap(model, tokenizer, Settings().replace(changes), tmp_path) < 1e-4


def test_a_missing_bos_would_show(tmp_path: Path) -> None:
    model, tokenizer = tiny.build_model("llama", seed=3), tiny.build_tokenizer(chat_template=False)
    assert largest_gap(model, tokenizer, Settings(), tmp_path, special=False) > 0.01


@pytest.mark.long
@pytest.mark.slow
def test_the_embedded_model(tmp_path: Path) -> None:
    model, tokenizer = load("smollm2-135m", dtype="float32")
    assert largest_gap(model, tokenizer, Settings(), tmp_path) < 1e-3
