"""The learning rate is found on the first head, holds for rows of any size, and changes nothing."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import tiny
from nasalign.config import Settings
from nasalign.data.records import BinaryExample
from nasalign.head_rows.rows import head_slices, read_weight_rows, write_rows
from nasalign.inference.scoring import score_prompts
from nasalign.io.files import read_json
from nasalign.models.geometry import HeadGeometry
from nasalign.nas.heads import Head
from nasalign.nasa.learning_rate import (
    FILE,
    MOVE,
    MOVE_IN_HASTE,
    UNFOUND,
    _factor,
    find_learning_rate,
)
from nasalign.nasa.training import RowTuner
from nasalign.prompts.builder import PromptBuilder
from nasalign.run import Run
from tiny import same, state

HEAD, LATER, LOWER = Head(1, 2, 0.0), Head(2, 0, 0.0), Head(0, 2, 0.0)


def tuner_of(
    tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel | None = None, **settings: object
) -> RowTuner:
    builder = PromptBuilder(tokenizer)
    words = ("one", "two", "three", "four", "five", "six")
    prompts = [builder.binary(BinaryExample(f"What is {word}?", True, word)) for word in words]
    model = model or tiny.build_model("llama")
    chosen = Settings(tuning_batch_size=2, batch_size=6, warmup_ratio=0.0, learning_rate="auto")
    return RowTuner(
        model.requires_grad_(False), prompts, prompts, chosen.replace(settings), [HEAD, LATER]
    )


def found(tuner: RowTuner, heads: Sequence[Head] = (HEAD, LATER), **facts: object) -> dict:
    run = Run()
    run.facts |= facts
    find_learning_rate(run, tuner, heads)
    return run.facts["learning_rate"]


def test_an_epoch_at_the_rate_moves_the_answers_as_far_as_wanted(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    tuner = tuner_of(tokenizer, epochs=30)
    told = found(tuner)
    scores = score_prompts(tuner.model, tuner.validation)
    start = torch.stack([scores.p_positive.log(), scores.p_negative.log()]).mean(dim=1)
    log_odds = float(start[0] - start[1])
    assert told["found"]
    assert told["log_odds"] == pytest.approx(log_odds, rel=1e-4)
    assert told["move"] == pytest.approx(max(abs(log_odds) * MOVE, 0.1), rel=1e-4)
    tuner.begin(HEAD)
    tuner.train_epoch()
    tuner.measure()
    wanted, other = (tuner.log_probabilities() - start).tolist()
    assert max(wanted, abs(wanted - other)) == pytest.approx(told["move"], rel=0.4)


@pytest.mark.parametrize(
    ("lowered", "move"), [({"epochs": 4}, MOVE_IN_HASTE), ({"evaluation_questions": 400}, MOVE)]
)
def test_an_epoch_goes_further_where_a_budget_leaves_few(
    lowered: dict[str, int], move: float, tokenizer: PreTrainedTokenizerFast
) -> None:
    told = found(tuner_of(tokenizer), budget={"minutes": 15.0, "given": lowered})
    assert told["move"] == pytest.approx(max(abs(told["log_odds"]) * move, 0.1), rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_model_and_all_that_is_measured_of_it_are_as_before(
    dtype: torch.dtype, tokenizer: PreTrainedTokenizerFast
) -> None:
    models = [tiny.build_model("llama", dtype=dtype) for _ in range(2)]
    before = state(models[0])
    searched, fresh = (tuner_of(tokenizer, model) for model in models)
    told = found(searched)
    assert same(before, models[0])
    assert not any(parameter.requires_grad for parameter in models[0].parameters())
    fresh.relative_rate = told["relative"]
    for tuner in (searched, fresh):
        tuner.measure()
        tuner.begin(HEAD)
    assert [searched.train_epoch() for _ in range(2)] == [fresh.train_epoch() for _ in range(2)]
    assert torch.equal(searched.measure().nas, fresh.measure().nas)
    assert same(state(models[1]), models[0])


@pytest.mark.parametrize("factor", [4.0, 0.25])
def test_the_rate_goes_with_the_size_of_the_rows(
    factor: float, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Queries that are larger and keys that are smaller by the same factor are the same model."""
    plain, scaled = tiny.build_model("llama"), tiny.build_model("llama")
    query, key = head_slices(HeadGeometry.of(scaled), *HEAD[:2], "group")
    write_rows(scaled, key, read_weight_rows(scaled, key) / factor)
    for head in range(4):  # those of the group, which share the key
        one, other = head_slices(HeadGeometry.of(scaled), HEAD.layer, head, "group")
        if other == key:
            write_rows(scaled, one, read_weight_rows(scaled, one) * factor)
    first, second = found(tuner_of(tokenizer, plain)), found(tuner_of(tokenizer, scaled))
    assert second["relative"] == pytest.approx(first["relative"], rel=1e-2)
    rates = [first["rates"][0] * factor, first["rates"][1] / factor]
    assert second["rates"] == pytest.approx(rates, rel=1e-2)
    sizes = [read_weight_rows(plain, where).square().mean().sqrt() for where in (query, key)]
    assert first["rates"] == pytest.approx([first["relative"] * float(size) for size in sizes])


def test_each_head_is_trained_at_its_own_rates(tokenizer: PreTrainedTokenizerFast) -> None:
    tuner = tuner_of(tokenizer)
    relative = found(tuner)["relative"]
    for head in (HEAD, LATER):
        tuner.begin(head)
        rates = [group["lr"] for group in tuner.optimizer.adam.param_groups]
        rows = [rows.square().mean().sqrt() for rows in tuner.rows.original.values()]
        assert rates == pytest.approx([relative * float(size) for size in rows])
        tuner.restore()
        tuner.finish()
    tuner = tuner_of(tokenizer, learning_rate=1e-3)  # a rate that is set is that of all rows
    tuner.begin(HEAD)
    assert [group["lr"] for group in tuner.optimizer.adam.param_groups] == [1e-3, 1e-3]


def test_the_schedule_and_the_calls_before_do_not_matter(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    told = [
        found(tuner_of(tokenizer, **settings))
        for settings in ({}, {}, {"warmup_ratio": 0.5}, {"epochs": 1})
    ]
    assert told[1:] == [told[0]] * 3
    assert found(tuner_of(tokenizer, seed=1)) != told[0]


def test_an_epoch_of_more_steps_is_taken_as_longer(tokenizer: PreTrainedTokenizerFast) -> None:
    """Six steps an epoch, of which three are tried, go twice as far as three."""
    three, six = tuner_of(tokenizer), tuner_of(tokenizer, tuning_batch_size=1)
    calls: list[int] = []
    six.progress = None
    trial = six.trial
    six.trial = lambda head, steps, rate: calls.append(steps) or trial(head, steps, rate)  # type: ignore[method-assign]
    assert found(six)["relative"] < found(three)["relative"]
    assert calls == [3]


def without_output(*heads: Head) -> PreTrainedModel:
    """A model in which the layers of some heads add nothing."""
    model = tiny.build_model("llama")
    for head in heads:
        model.get_submodule(f"model.layers.{head.layer}.self_attn.o_proj").weight.data.zero_()
    return model


def test_a_head_that_moves_nothing_is_passed_over(tokenizer: PreTrainedTokenizerFast) -> None:
    told, alone = (
        found(tuner_of(tokenizer, without_output(HEAD)), heads)
        for heads in ([HEAD, LOWER], [LOWER])
    )
    assert (told["found"], told["heads_without"], told["layer"]) == (True, 1, LOWER.layer)
    assert told == alone | {"heads_without": 1}


def test_where_no_head_moves_the_answers_the_rate_is_said_not_to_be_found(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    told = found(tuner_of(tokenizer, without_output(HEAD, LATER)))
    assert (told["found"], told["relative"], told["heads_without"]) == (False, UNFOUND, 1)


def test_the_rate_is_in_a_file_and_read_back_from_it(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, tuner = Run(tmp_path), tuner_of(tokenizer)
    find_learning_rate(run, tuner, [HEAD, LATER])
    assert read_json(tmp_path / FILE) == run.facts["learning_rate"]
    monkeypatch.setattr(RowTuner, "trial", None)
    resumed, other = Run(tmp_path, resuming=True), tuner_of(tokenizer)
    find_learning_rate(resumed, other, [HEAD, LATER])
    assert other.relative_rate == tuner.relative_rate
    assert resumed.facts["learning_rate"] == run.facts["learning_rate"]


@pytest.mark.parametrize("slope", [1e-3, 0.01, 0.1, 0.3, 1.0])
def test_a_linear_move_is_met_exactly(slope: float) -> None:
    factor = _factor(lambda factor: slope * factor, 0.1)
    assert factor == pytest.approx(0.1 / slope)


def test_a_head_that_moves_nothing_is_given_up_soon() -> None:
    tried: list[float] = []

    def moved(factor: float) -> float:
        tried.append(factor)
        return 0.0

    assert _factor(moved, 0.1) is None
    assert tried == [4.0, 128.0, 32.0]


@pytest.mark.parametrize(
    ("moved", "least", "most"),
    [
        (lambda factor: 0.0, None, None),
        (lambda factor: -factor, None, None),
        (lambda factor: min(factor * 1e-4, 0.05), None, None),  # it levels off too soon
        (lambda factor: math.sqrt(factor), 0.0, 2.0**-6),  # even the least goes too far
        (lambda factor: factor**2 * 1e-3, 8.0, 16.0),
        (lambda factor: 0.01 if factor < 8 else math.inf, 4.0, 4.0),  # beyond is not finite
    ],
)
def test_where_a_move_is_not_linear(
    moved: Callable[[float], float], least: float | None, most: float | None
) -> None:
    factor = _factor(moved, 0.1)
    if least is None or most is None:
        assert factor is None
    else:
        assert factor is not None
        assert least <= factor <= most
