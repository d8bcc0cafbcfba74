"""lm_eval's own wrapper gives the verdicts and the figures of our evaluation."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import tiny
from harness.material import examples, tokenizers
from nasalign.config import Settings
from nasalign.errors import OutOfMemoryError
from nasalign.evaluation.evaluation import Evaluation, run_evaluation
from nasalign.evaluation.ranking import log_odds
from nasalign.harness.tasks import Task
from nasalign.prompts.builder import PromptBuilder

pytest.importorskip("lm_eval", reason="lm_eval is not installed: pip install nasalign[harness]")
from nasalign.harness.running import Outcome, run_task

EXAMPLES = examples()


def both(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: Settings,
    folder: Path,
    **changes: bool,
) -> tuple[Evaluation, Outcome]:
    evaluation = run_evaluation(model, tokenizer, EXAMPLES, settings)
    builder = PromptBuilder.of(tokenizer, settings, (), settings.scenario)
    task = replace(Task.of("facts", evaluation.examples, builder), **changes)
    task.write(folder, "a test")
    return evaluation, run_task(model, tokenizer, task, folder)


def same(evaluation: Evaluation, outcome: Outcome) -> None:
    metrics = evaluation.metrics(10)
    assert outcome.verdicts == evaluation.scores.verdicts
    for name in ("accuracy", "f1", "yes_rate"):
        assert outcome.figures[name] == pytest.approx(metrics[name], abs=1e-12), name
    ours = log_odds(evaluation.scores.p_positive, evaluation.scores.p_negative)
    np.testing.assert_allclose(outcome.log_odds, ours, atol=1e-4)
    found = outcome.beside(evaluation)
    assert found["different_verdicts"] == 0
    assert found["largest_difference_of_log_odds"] == np.abs(ours - outcome.log_odds).max()


@pytest.mark.parametrize("name", tokenizers())
def test_figures_and_verdicts_are_ours(name: str, tmp_path: Path) -> None:
    model = tiny.build_model("llama", seed=3)
    evaluation, outcome = both(model, tokenizers()[name], Settings(), tmp_path)
    same(evaluation, outcome)
    assert np.ptp(outcome.log_odds) > 0.01  # the examples are told apart at all


@pytest.mark.parametrize(
    "changes",
    [
        {"scenario": "unsure"},
        {"scenario": "negated"},
        {"vocabulary": "true/false", "instruction": "B"},
        {"batch_size": 3},
    ],
    ids=str,
)
def test_so_they_are_however_it_is_asked(changes: dict, tmp_path: Path) -> None:
    model, tokenizer = tiny.build_model("llama", seed=3), tiny.build_tokenizer(chat_template=False)
    evaluation, outcome = both(model, tokenizer, Settings().replace(changes), tmp_path)
    same(evaluation, outcome)
    assert len(set(outcome.verdicts)) > 1


@pytest.mark.parametrize("family", ["mistral", "gemma2", "gpt_neox"])
def test_so_they_are_of_other_families(family: str, tmp_path: Path) -> None:
    model, tokenizer = tiny.build_model(family), tiny.build_tokenizer(chat_template=False)
    same(*both(model, tokenizer, Settings(), tmp_path))


def test_a_second_bos_or_none_would_show(tmp_path: Path) -> None:
    model, tokenizer = tiny.build_model("llama", seed=3), tiny.build_tokenizer(chat_template=False)
    evaluation, outcome = both(model, tokenizer, Settings(), tmp_path, special=False)
    assert outcome.beside(evaluation)["largest_difference_of_log_odds"] > 0.01


def test_model_and_tokenizer_are_left_as_they_were(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = tiny.build_model("llama"), tiny.build_tokenizer()
    tokenizer.pad_token = None
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    seen = []
    task = Task.of("facts", EXAMPLES, PromptBuilder(tokenizer))
    task.write(tmp_path, "a test")
    drawn = torch.get_rng_state(), np.random.get_state()[1].tolist()
    monkeypatch.chdir(tmp_path)  # no git repository, which git would complain of
    run_task(model, tokenizer, task, tmp_path, batch_size=5, progress=seen.append)
    assert seen == [5, 5, 5, 5, 4]
    assert tokenizer.pad_token is None
    assert not model._forward_hooks
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert torch.equal(torch.get_rng_state(), drawn[0])
    assert np.random.get_state()[1].tolist() == drawn[1]
    assert logging.getLogger("lm_eval").level == logging.NOTSET
    assert capfd.readouterr() == ("", "")


@pytest.mark.long
def test_a_batch_that_does_not_fit_is_halved(tmp_path: Path) -> None:
    model, tokenizer = tiny.build_model("llama", seed=3), next(iter(tokenizers().values()))
    most, refused = 3, list[int]()

    def small(module: object, inputs: tuple[torch.Tensor, ...]) -> None:
        if inputs[0].shape[0] > most:
            refused.append(inputs[0].shape[0])
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    hook = model.model.layers[0].register_forward_pre_hook(small)
    same(*both(model, tokenizer, Settings(), tmp_path))
    assert refused
    most = 0
    builder = PromptBuilder.of(tokenizer, Settings())
    task = Task.of("facts", EXAMPLES, builder)
    with pytest.raises(OutOfMemoryError, match="while running lm_eval: a batch of one"):
        run_task(model, tokenizer, task, tmp_path)
    hook.remove()
