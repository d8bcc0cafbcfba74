"""An epoch that passes the halting point is shortened to where it just passes that point."""

import math
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

import tiny
from fault_tools import Stop
from nasalign.config import Settings
from nasalign.data.records import BinaryExample
from nasalign.head_rows.rows import head_slices, read_weight_rows
from nasalign.inference.scoring import score_prompts
from nasalign.models.geometry import HeadGeometry
from nasalign.nas.heads import Head
from nasalign.nasa.algorithm import Limits, Measurement, incremental_tuning
from nasalign.nasa.checkpoint import CheckpointedTuner
from nasalign.nasa.decisions import HeadRecord
from nasalign.nasa.training import RowTuner
from nasalign.prompts.builder import PromptBuilder
from scripted import START, Epoch, Script
from tiny import same, state

A, B = Head(0, 1, 3.0), Head(1, 0, 2.0)


def heads_of(script: Script, tau: float = -math.inf, epochs: int = 3) -> list[HeadRecord]:
    limits = Limits(epochs, 0.5, tau, 0.5, line_search=True)
    records = incremental_tuning([A, B], script, limits)
    return [record for record in records if isinstance(record, HeadRecord)]


@pytest.mark.parametrize(
    ("epochs", "scale", "alpha", "beta", "share"),
    [
        # 0.8 t > 0.5 from t = 0.625 on; of the 32nds the first beyond is 21
        ([Epoch(9, 8, 0.8)], 21 / 32, 10 - 21 / 32, 10 - 42 / 32, 0.525),
        # from the state after the first epoch: 0.25 + 0.5 t > 0.5
        ([Epoch(9, 9, 0.25), Epoch(8, 7, 0.75)], 17 / 32, 9 - 17 / 32, 9 - 34 / 32, 0.515625),
        ([Epoch(9, 8, 0.5078125)], 32 / 32, 9, 8, 0.5078125),  # the last 32nd is needed
        # 1.25 at the first 32nd is far above: 0.625 at 1/64, and 0.46875 at 3/256
        ([Epoch(9, 8, 40.0)], 1 / 64, 10 - 1 / 64, 10 - 2 / 64, 0.625),
        ([Epoch(9, 8, 17.0)], 1 / 32, 10 - 1 / 32, 10 - 2 / 32, 0.53125),  # this is near
    ],
)
def test_the_share_of_yes_is_just_above_the_halting_share(
    epochs: list[Epoch], scale: float, alpha: float, beta: float, share: float
) -> None:
    script = Script({A: epochs, B: []})
    [head] = heads_of(script)
    assert head.scale == scale
    assert (head.alpha, head.beta, head.yes_share) == pytest.approx((alpha, beta, share))
    assert (head.stopped, head.kept, head.halted) == ("enough Yes", True, "enough Yes")
    assert script.state[0][A[:2]] == pytest.approx(alpha)  # that is what stays in the model
    assert script.state[1:] == pytest.approx((beta, share))


def test_with_a_tau_the_model_nas_is_just_below_it_and_no_epoch_follows() -> None:
    script = Script({A: [Epoch(9, 9, 0.9), Epoch(8, 1, 0.9), Epoch(7, 0, 0.9)], B: []})
    [head] = heads_of(script, tau=5.0)  # 9 - 8 t < 5 beyond t = 0.5
    assert (head.epochs, head.scale, head.beta) == (2, 17 / 32, 9 - 8 * 17 / 32)
    assert (head.stopped, head.halted) == ("model NAS below tau", "model NAS below tau")


def test_the_search_is_five_measurements_and_a_last_one_where_it_ends() -> None:
    script = Script({A: [Epoch(9, 8, 0.8)], B: []})
    heads_of(script)
    tried = [0.5, 0.75, 0.625, 0.6875, 0.65625]
    searched = [call for share in (*tried, tried[-1]) for call in (f"scale {share:g}", "measure")]
    assert script.calls == ["measure", "begin 0.1", "epoch", "measure", *searched, "finish"]


def test_the_search_goes_on_where_the_share_is_far_above_and_ends_when_it_is_near() -> None:
    script = Script({A: [Epoch(9, 8, 20.0)], B: []})  # 0.625 at 1/32, 0.46875 at 3/128
    [head] = heads_of(script)
    assert (head.scale, head.yes_share) == (7 / 256, pytest.approx(0.546875))
    tried = [1 / 2**power for power in range(1, 7)] + [3 / 128, 7 / 256, 7 / 256]
    assert [call for call in script.calls if call[:5] == "scale"] == [f"scale {t:g}" for t in tried]


def test_the_model_nas_is_no_share_that_is_far_above() -> None:
    script = Script({A: [Epoch(9, -1e4, 1.0)], B: []})
    [head] = heads_of(script, tau=5.0)
    assert head.scale == 1 / 32


def test_nothing_is_shortened_before_the_halting_point_or_without_the_setting() -> None:
    epochs = {A: [Epoch(9, 9, 0.5)] * 3, B: [Epoch(9, 8, 0.9)]}
    script = Script(epochs)
    first, second = heads_of(script)
    assert (first.scale, first.stopped) == (1.0, "all epochs")
    assert second.scale < 1
    literal = Script(epochs)
    list(incremental_tuning([A, B], literal, Limits(3, 0.5, -math.inf, 0.5)))
    assert not any(call.startswith("scale") for call in literal.calls)
    assert literal.state[2] == 0.9


def test_an_update_that_raises_the_scores_is_cancelled_at_any_length() -> None:
    script = Script({A: [Epoch(11, 12, 0.8)], B: [Epoch(9, 9, 0.5)] * 3})
    first, second = heads_of(script)
    assert (first.kept, first.halted) == (False, "")
    assert first.cancelled == "head NAS above its start, model NAS above its start"
    assert first.alpha == pytest.approx(10 + 21 / 32)  # as measured where the search ended
    assert (second.alpha_before, second.beta_before) == (START, START)
    assert script.state[2] == 0.5


@pytest.mark.parametrize("broken", [Epoch(math.nan, math.nan, 0.9), Epoch(9, 9, 0.9, math.nan)])
def test_what_cannot_be_measured_is_not_searched(broken: Epoch) -> None:
    script = Script({A: [broken], B: [Epoch(9, 9, 0.25)] * 3})
    first, second = heads_of(script)
    assert (first.kept, first.scale, second.kept) == (False, 1.0, True)
    assert not any(call.startswith("scale") for call in script.calls)


HEAD = Head(1, 2, 0.0)
LIMITS = Limits(epochs=3, rho=-1e9, tau=-math.inf, halting_share=1e-9, line_search=True)
"""Any Yes is enough, so that the tiny model soon passes it."""


def tuner_of(
    tokenizer: PreTrainedTokenizerFast, dtype: torch.dtype = torch.float32, rate: float = 5e-2
) -> RowTuner:
    builder = PromptBuilder(tokenizer)
    words = ("one", "two", "three", "four", "five", "six")
    prompts = [builder.binary(BinaryExample(f"What is {word}?", True, word)) for word in words]
    model = tiny.build_model("llama", dtype=dtype).requires_grad_(False)
    settings = Settings(tuning_batch_size=6, batch_size=6, warmup_ratio=0.0, learning_rate=rate)
    return RowTuner(model, prompts, prompts, settings, [HEAD])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_ends_of_the_way_are_exact_and_half_of_it_is_between(
    dtype: torch.dtype, tokenizer: PreTrainedTokenizerFast
) -> None:
    tuner = tuner_of(tokenizer, dtype)
    tuner.begin(HEAD)
    tuner.train_epoch()
    start, before = tuner.rows.copies(), state(tuner.model)
    tuner.train_epoch()
    end, after = tuner.rows.copies(), state(tuner.model)
    tuner.scale(0.5)
    for rows, first, last in zip(tuner.rows.copies(), start, end, strict=True):
        torch.testing.assert_close(rows, (first + last) / 2)
    assert not same(before, tuner.model)
    assert not same(after, tuner.model)
    for share, weights, rows in ((1, after, end), (0, before, start), (1, after, end)):
        tuner.scale(share)
        assert same(weights, tuner.model)
        assert all(torch.equal(*pair) for pair in zip(tuner.rows.copies(), rows, strict=True))


def test_what_is_kept_is_what_was_measured(tokenizer: PreTrainedTokenizerFast) -> None:
    tuner = tuner_of(tokenizer)
    tuner.begin(HEAD)
    tuner.train_epoch()
    tuner.scale(0.3)
    found = tuner.measure()
    scores = score_prompts(tuner.model, tuner.validation, batch_size=6)
    assert torch.equal(found.nas, scores.nas.mean(dim=0))
    assert found.yes_share == scores.verdicts.count("positive") / 6


def halting_at_four_tenths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let V be past the halting point from four tenths of the length of an epoch on."""
    begun = RowTuner.measure

    def measure(self: RowTuner) -> Measurement:
        now = begun(self)
        if not hasattr(self, "rows") or not hasattr(self, "way"):
            return Measurement(now.nas, 0.0)
        (start, *_), (rows, *_) = self.way[0], self.rows.copies()
        end = self.way[1][0] if len(self.way) > 1 else rows
        gone = (rows - start).norm() / (end - start).norm()
        return Measurement(now.nas - 1e3 * self.tuned, 0.04 if gone > 0.4 else 0.0)

    monkeypatch.setattr(RowTuner, "measure", measure)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("calls", [1, 3, 6])
def test_a_run_that_ends_in_the_search_searches_again(
    calls: int,
    dtype: torch.dtype,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = tuner_of(tokenizer, dtype)
    halting_at_four_tenths(monkeypatch)
    expected = list(incremental_tuning([HEAD], whole, LIMITS))
    assert isinstance(expected[-1], HeadRecord)
    assert expected[-1].kept
    assert expected[-1].scale == 13 / 32  # the first beyond 0.4

    real, count = RowTuner.scale, 0

    def scale(self: RowTuner, share: float) -> None:
        nonlocal count
        count += 1
        if count == calls:
            raise Stop
        real(self, share)

    with monkeypatch.context() as patch:
        patch.setattr(RowTuner, "scale", scale)
        first = CheckpointedTuner(tuner_of(tokenizer, dtype), tmp_path)
        with pytest.raises(Stop):
            list(incremental_tuning([HEAD], first, LIMITS))
    second = CheckpointedTuner(tuner_of(tokenizer, dtype), tmp_path)
    trained: list[int] = []
    train = RowTuner.train_epoch
    monkeypatch.setattr(RowTuner, "train_epoch", lambda self: trained.append(1) or train(self))
    assert list(incremental_tuning([HEAD], second, LIMITS)) == expected
    assert not trained
    slices = head_slices(HeadGeometry.of(whole.model), *HEAD[:2], "group")
    for where in slices:
        rows = read_weight_rows(whole.model, where)
        assert torch.equal(read_weight_rows(second.tuner.model, where), rows)
