"""Algorithm 1 goes line by line as Appendix F prints it, whatever the model says."""

import math
import random

import pytest

import reference
from nasalign.nas.heads import Head
from nasalign.nasa.algorithm import Limits, incremental_tuning
from nasalign.nasa.decisions import EpochRecord, HeadRecord, as_row
from scripted import START, Epoch, Script, State

A, B, C = Head(0, 1, 3.0), Head(1, 0, 2.0), Head(0, 0, 1.0)
FINITE = -1000.0  # a tau that nothing reaches


def run(
    script: Script, heads: list[Head], *, tau: float = FINITE, epochs: int = 3
) -> tuple[list[EpochRecord], list[HeadRecord]]:
    records = list(incremental_tuning(heads, script, Limits(epochs, 0.5, tau, 0.5)))
    return (
        [record for record in records if isinstance(record, EpochRecord)],
        [record for record in records if isinstance(record, HeadRecord)],
    )


def falling(alpha: float = 9, beta: float = 9, count: int = 3) -> list[Epoch]:
    """Epochs in which nothing rises: nothing stops them."""
    return [Epoch(alpha - 0.5 * index, beta - 0.5 * index) for index in range(count)]


def test_heads_are_tuned_in_their_order_each_finished_before_the_next() -> None:
    script = Script({A: falling(), B: falling(8, 7), C: falling(7, 5)})
    epochs, heads = run(script, [B, A, C][::-1])
    an_epoch = ["epoch", "measure"]
    assert script.calls == [
        "measure",
        *("begin 0.0", *an_epoch * 3, "finish"),
        # each later head starts above what the one before left, so its update is cancelled
        *("begin 0.1", *an_epoch * 3, "restore", "finish"),
        *("begin 1.0", *an_epoch * 3, "restore", "finish"),
    ]
    assert [(head.layer, head.head) for head in heads] == [(0, 0), (0, 1), (1, 0)]
    order = [(record.head, record.epoch) for record in epochs[:4]]
    assert order == [(0, 1), (0, 2), (0, 3), (1, 1)]


@pytest.mark.parametrize(
    ("epochs", "used", "stopped"),
    [
        ([Epoch(9, 9), Epoch(8, 8), Epoch(7, 7)], 3, "all epochs"),
        ([Epoch(9, 9), Epoch(9, 9), Epoch(9, 9)], 3, "all epochs"),  # equal is no rise
        ([Epoch(8, 8), Epoch(8.25, 7)], 2, "head NAS rose"),
        ([Epoch(0.25, 8)], 1, "head NAS below rho"),
        ([Epoch(0.5, 8), Epoch(0.5, 8), Epoch(0.5, 8)], 3, "all epochs"),  # at rho it goes on
        ([Epoch(8, 8), Epoch(7, 8.25)], 2, "model NAS rose"),
        ([Epoch(9, 9), Epoch(8, 8), Epoch(8.5, 7)], 3, "head NAS rose"),  # at the last epoch
    ],
)
def test_each_early_stop_of_line_11(epochs: list[Epoch], used: int, stopped: str) -> None:
    script = Script({A: epochs})
    records, [head] = run(script, [A])
    assert (head.epochs, head.stopped) == (used, stopped)
    assert [record.alpha for record in records] == [epoch.alpha for epoch in epochs]
    assert [record.beta for record in records] == [epoch.beta for epoch in epochs]
    assert head.kept  # above the last epoch, but not above the start
    assert "restore" not in script.calls


def test_nothing_rises_in_the_first_epoch() -> None:
    """Line 5: alpha and beta are infinite, not those of the start."""
    script = Script({A: [Epoch(12, 12), Epoch(11, 11), Epoch(9, 9)]})
    _, [head] = run(script, [A])
    assert (head.epochs, head.stopped, head.kept) == (3, "all epochs", True)


@pytest.mark.parametrize(
    ("last", "cancelled"),
    [
        (Epoch(10, 10), ""),
        (Epoch(10.25, 9), "head NAS above its start"),
        (Epoch(9, 10.25), "model NAS above its start"),
        (Epoch(11, 11), "head NAS above its start, model NAS above its start"),
    ],
)
def test_an_update_above_its_start_is_cancelled_and_no_other(last: Epoch, cancelled: str) -> None:
    script = Script({A: [last]})
    _, [head] = run(script, [A], epochs=1)
    assert head.cancelled == cancelled
    assert head.kept is (not cancelled)
    assert (script.calls.count("restore") == 1) is bool(cancelled)
    assert (head.alpha, head.beta) == (last.alpha, last.beta)
    assert (head.alpha_before, head.beta_before) == (START, START)
    assert script.state[1] == (START if cancelled else last.beta)


def test_the_state_of_a_cancelled_head_is_not_carried_on() -> None:
    script = Script({A: [Epoch(9, 9)], B: [Epoch(3, 50)], C: [Epoch(9, 8)]})
    _, heads = run(script, [A, B, C], epochs=1)
    assert [head.kept for head in heads] == [True, False, True]
    assert [head.alpha_before for head in heads] == [START] * 3
    assert [head.beta_before for head in heads] == [START, 9, 9]
    assert script.state == ({A[:2]: 9, B[:2]: START, C[:2]: 9}, 8, 0.0)


def test_a_model_nas_below_tau_ends_all_later_heads_after_the_epochs_of_this_one() -> None:
    script = Script({A: falling(9, 6), B: [Epoch(9, 4.75), Epoch(8, 4.5), Epoch(7, 4)], C: []})
    _, heads = run(script, [A, B, C], tau=5.0)
    assert [head.halted for head in heads] == ["", "model NAS below tau"]  # at tau it goes on
    assert [(head.epochs, head.kept) for head in heads] == [(3, True), (3, True)]
    assert "begin 0.0" not in script.calls


def test_line_16_halts_even_if_line_15_has_just_cancelled() -> None:
    script = Script({A: [Epoch(8, 4), Epoch(11, 4)], B: []})
    _, [head] = run(script, [A, B], tau=5.0)
    assert (head.cancelled, head.halted) == ("head NAS above its start", "model NAS below tau")
    assert script.state[1] == START
    assert script.calls[-2:] == ["restore", "finish"]


@pytest.mark.parametrize("tau", [FINITE, 9.5, -math.inf])
@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_costs_only_its_head(loss: float, tau: float) -> None:
    """The epoch before it lies below a tau of 9.5, and has enough Yes: neither halts."""
    script = Script({A: [Epoch(9, 9, 0.5), Epoch(1, 1, 0.9, loss)], B: [Epoch(9, 30)] * 2})
    records, heads = run(script, [A, B], epochs=2, tau=tau)
    assert (heads[0].stopped, heads[0].cancelled) == ("loss not finite", "loss not finite")
    assert (heads[0].kept, heads[0].halted) == (False, "")
    assert [record.epoch for record in records if record.layer == A.layer] == [1]
    assert (heads[1].alpha_before, heads[1].beta_before) == (START, START)
    assert script.calls[1:7] == ["begin 0.1", "epoch", "measure", "epoch", "restore", "finish"]


def test_an_update_after_which_nothing_can_be_measured_is_not_kept() -> None:
    """A NaN is neither above nor below anything, so no line of Appendix F would stop it."""
    script = Script({A: [Epoch(9, 9), Epoch(math.nan, math.nan)], B: [Epoch(9, 9)] * 2})
    _, heads = run(script, [A, B], epochs=2)
    assert [head.kept for head in heads] == [False, True]
    assert heads[0].cancelled
    assert (heads[1].alpha_before, heads[1].beta_before) == (START, START)


def test_without_true_positives_the_share_of_yes_stops_the_head_and_ends_the_tuning() -> None:
    script = Script({A: [Epoch(9, 9, 0.5)] * 3, B: [Epoch(9, 8, 0.5), Epoch(8, 7, 0.75)], C: []})
    _, heads = run(script, [A, B, C], tau=-math.inf)
    assert [(head.epochs, head.stopped) for head in heads] == [(3, "all epochs"), (2, "enough Yes")]
    assert [head.halted for head in heads] == ["", "enough Yes"]  # at the share it goes on
    assert [head.yes_share for head in heads] == [0.5, 0.75]


def test_the_share_of_yes_of_a_cancelled_head_does_not_halt() -> None:
    script = Script({A: [Epoch(9, 11, 0.75)], B: [Epoch(9, 9, 0.75)], C: []})
    _, heads = run(script, [A, B, C], tau=-math.inf)
    assert [head.stopped for head in heads] == ["enough Yes", "enough Yes"]
    assert [head.kept for head in heads] == [False, True]
    assert [head.halted for head in heads] == ["", "enough Yes"]


def test_with_a_finite_tau_the_share_of_yes_does_nothing() -> None:
    epochs = [Epoch(9, 9, 1.0), Epoch(8, 8, 1.0), Epoch(7, 7, 1.0)]
    _, heads = run(Script({A: epochs, B: [Epoch(9, 6, 1.0)] * 3}), [A, B])
    assert [(head.epochs, head.stopped, head.halted) for head in heads] == [
        (3, "all epochs", "")
    ] * 2


def test_records_are_plain_rows() -> None:
    epochs, heads = run(Script({A: [Epoch(9, 8, 0.25, 2.0)]}), [A], epochs=1)
    assert as_row(epochs[0]) == {
        **{"record": "epoch", "layer": 0, "head": 1, "epoch": 1, "loss": 2.0},
        **{"alpha": 9.0, "beta": 8.0, "yes_share": 0.25},
    }
    row = as_row(heads[0])
    assert (row["record"], row["stopped"], row["kept"]) == ("head", "all epochs", True)


@pytest.mark.parametrize("seed", range(200))
def test_equals_the_reference(seed: int) -> None:
    rng = random.Random(seed)
    heads, limit = [A, B, C], rng.randint(1, 5)
    series = {
        head: [Epoch(rng.randint(0, 24) / 2, rng.randint(4, 24) / 2) for _ in range(limit)]
        for head in heads
    }
    tau, rho = rng.choice([FINITE, 3.0, 5.0]), rng.choice([0.5, 2.0])
    literal, script = Script(series), Script(series)
    restores: list[State] = []

    def restore(state: State) -> None:
        restores.append(state)
        literal.state = state

    expected = reference.algorithm_1(
        [head[:2] for head in heads],
        literal.tune,
        lambda head: literal.state[0][head],
        lambda: literal.state[1],
        lambda: literal.state,
        restore,
        tau,
        rho,
        limit,
    )
    events: list[tuple] = []
    for record in incremental_tuning(heads, script, Limits(limit, rho, tau, 0.5)):
        head = (record.layer, record.head)
        if isinstance(record, EpochRecord):
            events.append(("epoch", head, record.epoch, record.alpha, record.beta))
            continue
        if record.stopped != "all epochs":
            events.append(("stopped", head, record.epochs))
        events += [("cancelled", head)] * (not record.kept) + [("halted", head)] * bool(
            record.halted
        )
    assert events == expected
    assert script.calls.count("restore") == len(restores)
    assert script.state == literal.state


def by_model(script: Script, heads: list[Head], tau: float = FINITE, **options: bool) -> HeadRecord:
    """The record of the first head where the model's NAS alone decides."""
    limits = Limits(3, 0.5, tau, 0.5, by_model=True, **options)
    records = incremental_tuning(heads, script, limits)
    return next(record for record in records if isinstance(record, HeadRecord))


def test_by_the_model_a_head_ends_at_the_first_epoch_above_the_start() -> None:
    above = START + 0.25
    script = Script({A: [Epoch(9, above), Epoch(8, 8), Epoch(7, 7)]})
    head = by_model(script, [A])
    assert (head.epochs, head.stopped) == (1, "model NAS above its start")
    assert (head.kept, head.cancelled) == (False, "model NAS above its start")
    assert script.calls[-2:] == ["restore", "finish"]
    [_], [paper] = run(Script({A: [Epoch(9, above)]}), [A], epochs=1)
    assert paper.stopped == "all epochs"  # as in the paper, where the end decides


def test_by_the_model_a_rise_of_the_head_alone_cancels_nothing() -> None:
    rises = [Epoch(START + 1, 9), Epoch(START + 0.5, 8), Epoch(START + 0.25, 7)]
    head = by_model(Script({A: rises}), [A])
    assert (head.epochs, head.kept, head.cancelled) == (3, True, "")
    _, [paper] = run(Script({A: rises}), [A])
    assert paper.cancelled == "head NAS above its start"


def test_by_the_model_no_length_is_searched_of_what_is_cancelled() -> None:
    script = Script({A: [Epoch(9, START + 1, 0.9)]})
    head = by_model(script, [A], tau=-math.inf, line_search=True)
    assert (head.scale, head.kept) == (1.0, False)
    assert not any(call.startswith("scale") for call in script.calls)
