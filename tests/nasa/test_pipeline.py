"""align() in memory: every family is tuned in the rows of its heads alone, and reverted."""

import re
from pathlib import Path

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import nasalign
import tiny
from nasalign.config import Settings
from nasalign.data.records import Question
from nasalign.head_rows.rows import head_slices
from nasalign.inference.scoring import score
from nasalign.models.geometry import HeadGeometry
from nasalign.nasa.decisions import EpochRecord, HeadRecord
from nasalign.nasa.knowledge import ask_and_judge
from nasalign.nasa.probing import ProbingSet
from nasalign.run import Run
from nasalign.session import Session

SETTINGS = Settings(answer_tokens=6, n=4, k=8, epochs=2, learning_rate=1e-2, rho=-100)


def denying(
    family: str, tokenizer: PreTrainedTokenizerFast
) -> tuple[PreTrainedModel, list[Question]]:
    """A tiny model that denies some of its own answers, and the questions to these."""
    asked = [Question(f"What is word{number}?", "-") for number in range(30)]
    for seed in range(10):
        model = tiny.build_model(family, seed=seed)
        own = []
        for item in ask_and_judge(Session(model, tokenizer, SETTINGS), asked):
            words = re.findall(r"[A-Za-z]{3,}", item.prediction)
            own += [Question(item.question.question, words[0])] if words else []
        examples = [nasalign.BinaryExample(one.question, True, one.answer) for one in own]
        verdicts = score(model, tokenizer, examples).verdicts if own else []
        if verdicts.count("negative") >= 8:
            return model, own
    raise AssertionError(f"no tiny {family} denies what it says")


def test_only_rows_of_selected_heads_move_and_revert_is_exact(
    family: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    model, questions = denying(family, tokenizer)
    before = tiny.state(model)
    result = nasalign.align(model, tokenizer, questions, settings=SETTINGS)
    geometry = HeadGeometry.of(model)
    allowed: dict[str, set[int]] = {}
    for record in result.history:
        if isinstance(record, HeadRecord) and record.kept:
            for where in head_slices(geometry, record.layer, record.head, "group"):
                rows = allowed.setdefault(f"{where.module}.weight", set())
                rows |= set(range(where.start, where.stop))
    for name, value in model.named_parameters():
        changed = (value != before[name]).reshape(len(value), -1).any(dim=1).nonzero().flatten()
        assert set(changed.tolist()) <= allowed.get(name, set()), name
        assert (name in allowed) == (len(changed) > 0), name
    result.adapter.revert(model)
    assert tiny.same(before, model)


def test_an_interrupted_tuning_leaves_the_model_as_it_was(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, questions = denying("llama", tokenizer)
    before = tiny.state(model)

    def interrupt(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("nasalign.nasa.algorithm._early_stop", interrupt)
    with pytest.raises(KeyboardInterrupt):
        nasalign.align(model, tokenizer, questions, settings=SETTINGS)
    assert tiny.same(before, model)


@pytest.mark.parametrize(
    ("least", "halting"),
    [(3, {"kind": "tau", "value": 0.25}), (4, {"kind": "share", "value": 0.5, "of": "V"})],
)
def test_tau_stands_from_the_least_number_of_true_positives_on(
    least: int,
    halting: dict[str, object],
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ProbingSet, "count", lambda *_: 3)
    monkeypatch.setattr(ProbingSet, "tau", 0.25)
    model, questions = denying("llama", tokenizer)
    run = Run()
    settings = SETTINGS.replace({"min_true_positives": least})
    nasalign.align(model, tokenizer, questions, settings, run=run)
    assert run.facts["halting"] == halting | {"answer": "Yes"}


def test_balance_halts_whatever_tau_is(tokenizer: PreTrainedTokenizerFast) -> None:
    model, questions = denying("llama", tokenizer)
    run = Run()
    settings = SETTINGS.replace({"halting": "balance", "halting_share": 0.01})
    result = nasalign.align(model, tokenizer, questions, settings, run=run)
    facts = run.facts["halting"]
    assert facts == {"kind": "share", "value": 0.01, "of": "balance", "answer": "Yes"}
    assert run.facts["probing"]["balance"] == len(result.probing.balance) > 0
    assert result.history[-1].yes_share > 0.01
    assert result.history[-1].halted == "enough Yes"


def test_a_callback_sees_every_record_and_can_stop(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model, questions = denying("llama", tokenizer)
    first = Run(tmp_path / "first")
    whole = nasalign.align(
        model, tokenizer, questions, SETTINGS, run=first, on_record=lambda record: None
    )
    whole.adapter.revert(model)
    heads = [record for record in whole.history if isinstance(record, HeadRecord)]
    tuned = [(head.layer, head.head) for head in whole.heads]
    assert [(one.layer, one.head) for one in heads] == tuned[: len(heads)]
    assert sum(1 + one.epochs for one in heads) == len(whole.history)
    assert len((first.folder / "tuning.jsonl").read_text().splitlines()) == len(whole.history)
    seen: list[object] = []

    def second_head(record: object) -> bool:
        seen.append(record)
        return sum(isinstance(one, HeadRecord) for one in seen) < 1 or len(seen) < 4

    run = Run(tmp_path / "second")
    stopped = nasalign.align(model, tokenizer, questions, SETTINGS, run=run, on_record=second_head)
    assert stopped.history == seen
    assert seen[:-1] == whole.history[: len(seen) - 1]
    before, last = seen[-2:]  # the second head ends after its first epoch
    assert isinstance(before, EpochRecord)
    assert isinstance(last, HeadRecord)
    assert (last.epochs, last.stopped) == (1, "tuning was ended")
    assert last.kept is (last.alpha <= last.alpha_before and last.beta <= last.beta_before)
    assert len(stopped.kept) == sum(one.kept for one in seen if isinstance(one, HeadRecord))
    stopped.adapter.revert(model)
