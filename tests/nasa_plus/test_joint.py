"""Tuning heads together equals a plain loop, and the best epoch is what stays."""

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast, get_cosine_schedule_with_warmup

import architectures
import tiny
from joint_samples import HEADS, SETTINGS, literal_loss, samples
from nasalign.head_rows.rows import head_slices, joined
from nasalign.models.geometry import HeadGeometry
from nasalign.models.head_layouts import RowSlice
from nasalign.models.output_projections import attention_outputs
from nasalign.nas.heads import Head
from nasalign.nasa_plus.divergence import Answered
from nasalign.nasa_plus.head_parts import joint_slices
from nasalign.nasa_plus.joint_pairs import JointRecord, JointSamples, PromptPair, verdicts
from nasalign.nasa_plus.joint_tuning import JointTuner

FREE = [
    Answered((5, 6, 7, *more), own) for more, own in (((8, 9), 1), ((9, 10, 11), 3), ((30, 12), 2))
]


def literal_divergence(
    before: PreTrainedModel, after: PreTrainedModel, answers: list[Answered]
) -> Tensor:
    parts = []
    for one in answers:
        old, new = (
            model(input_ids=torch.tensor([one.token_ids])).logits[0, -one.own :].softmax(-1)
            for model in (before, after)
        )
        parts.append((old * (old / new).log()).sum(-1))
    return torch.cat(parts).mean()


def plain_loop(name: str, samples: JointSamples) -> list[float]:
    """The validation loss of each epoch, with whole weights that are computed anew each step."""
    tuning, validation = list(samples.tuning), list(samples.validation)
    model = tiny.build_model(name).double().requires_grad_(False)
    untouched = tiny.build_model(name).double().requires_grad_(False)
    geometry = HeadGeometry.of(model)
    rows: dict[str, set[int]] = {}
    for head in HEADS:
        for where in head_slices(geometry, *head[:2], "group"):
            rows.setdefault(where.module, set()).update(range(where.start, where.stop))
    for head in HEADS:
        value = geometry.rows(*head[:2]).value
        assert value
        rows.setdefault(value.module, set()).update(range(value.start, value.stop))
    columns: dict[str, set[int]] = {}
    for layer, head, _ in HEADS:
        output = attention_outputs(model)[layer]
        size = model.get_submodule(output).in_features // geometry.heads
        columns.setdefault(output, set()).update(range(head * size, (head + 1) * size))
    weights = {one: model.get_submodule(one).weight.clone() for one in [*rows, *columns]}
    generator = torch.Generator().manual_seed(SETTINGS.seed)
    down, up = {}, {}
    for module, weight in weights.items():
        down[module] = torch.empty(8, weight.shape[1]).double()
        torch.nn.init.kaiming_uniform_(down[module], a=5**0.5, generator=generator)
        down[module].requires_grad_()
        up[module] = torch.zeros(len(weight), 8).double().requires_grad_()
    adam = torch.optim.AdamW(
        [*down.values(), *up.values()],
        lr=SETTINGS.joint_learning_rate,
        betas=(0.9, 0.95),
        weight_decay=0,
    )
    steps = 5 * SETTINGS.joint_epochs
    schedule = get_cosine_schedule_with_warmup(adam, min(10, steps // 4), steps)

    def changed() -> dict[str, Tensor]:
        found = {}
        for module, weight in weights.items():
            mask = torch.zeros_like(weight)
            if module in rows:
                mask[sorted(rows[module])] = 1
            else:
                mask[:, sorted(columns[module])] = 1
            found[f"{module}.weight"] = weight + 2 * (up[module] @ down[module]) * mask
        return found

    def now(inner: Callable[..., Tensor]) -> Tensor:
        def run(input_ids: Tensor) -> Any:
            return torch.func.functional_call(model, changed(), kwargs={"input_ids": input_ids})

        return inner(run)

    order, losses = random.Random(SETTINGS.seed), []
    for epoch in range(SETTINGS.joint_epochs + 1):
        if epoch:
            places = list(range(len(tuning)))
            order.shuffle(places)
            places.sort(key=lambda place: len(tuning[place].right.token_ids))
            batches = [places[start : start + 2] for start in range(0, len(places), 2)]
            order.shuffle(batches)
            for batch in batches:
                adam.zero_grad()
                pairs = [tuning[place] for place in batch]
                loss = now(lambda run, pairs=pairs: literal_loss(run, pairs))
                if samples.free:
                    free = [samples.free[place % len(samples.free)] for place in batch[::2]]
                    part = now(lambda run, free=free: literal_divergence(untouched, run, free))
                    loss = loss + SETTINGS.kl_weight * part
                loss.backward()
                torch.nn.utils.clip_grad_norm_([*down.values(), *up.values()], 1.0)
                adam.step()
                schedule.step()
        with torch.no_grad():
            losses.append(float(now(lambda run: literal_loss(run, validation))))
    return losses


@pytest.mark.parametrize("free", [[], FREE])
@pytest.mark.parametrize("name", ["llama", "phi3", "gpt_neox", "qwen2"])
def test_it_equals_a_plain_loop(
    name: str, free: list[Answered], tokenizer: PreTrainedTokenizerFast
) -> None:
    validation = samples(tokenizer, "a", 10)
    learnt = JointSamples(samples(tokenizer, "a") + samples(tokenizer, "b", 5), validation, free)
    model = tiny.build_model(name).double().requires_grad_(False)
    records = list(JointTuner(model, learnt, HEADS, SETTINGS).tune())
    expected = plain_loop(name, learnt)
    assert [one.validation for one in records] == pytest.approx(expected, rel=1e-7)
    with torch.no_grad():  # the best epoch is what is left in the model
        assert float(literal_loss(model, validation)) == pytest.approx(min(expected), rel=1e-7)


def test_free_answers_stay_nearer_to_what_they_were(tokenizer: PreTrainedTokenizerFast) -> None:
    tuning = samples(tokenizer, "known")
    untouched = tiny.build_model("llama")
    firm = SETTINGS.replace({"kl_weight": 30.0, "joint_learning_rate": 3e-3, "joint_epochs": 8})
    moved = []
    for free in ([], FREE):
        model = tiny.build_model("llama").requires_grad_(False)
        list(JointTuner(model, JointSamples(tuning, tuning, free), HEADS, firm).tune())
        with torch.no_grad():
            moved.append(float(literal_divergence(untouched, model, FREE)))
    assert 0 < moved[1] < moved[0] / 2


def test_where_no_epoch_is_better_the_model_is_as_it_was(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    tuning = samples(tokenizer, "known")
    upside_down = [PromptPair(pair.wrong, pair.right, pair.kind) for pair in tuning]
    model = tiny.build_model("llama").requires_grad_(False)
    long = SETTINGS.replace({"joint_epochs": 40, "joint_learning_rate": 1e-2})
    *_, last = JointTuner(model, JointSamples(tuning, tuning), HEADS, long).tune()
    assert last.accuracy["known"] > 0.7  # it tells them apart
    before = tiny.state(model)
    records = list(JointTuner(model, JointSamples(upside_down, tuning), HEADS, SETTINGS).tune())
    least = min(records, key=lambda record: record.validation)
    assert least.epoch == 0  # the opposite was learnt
    assert tiny.same(before, model)


def test_a_record_has_each_kind_and_the_best_is_marked(tokenizer: PreTrainedTokenizerFast) -> None:
    tuning = samples(tokenizer, "known")
    validation = samples(tokenizer, "known", 10) + samples(tokenizer, "direct", 20)
    model = tiny.build_model("llama").requires_grad_(False)
    records = list(JointTuner(model, JointSamples(tuning, validation), HEADS, SETTINGS).tune())
    assert [record.epoch for record in records] == [0, 1, 2, 3]
    assert math.isnan(records[0].loss)
    least = math.inf
    for record in records:
        assert record.accuracy.keys() == record.yes_rate.keys() == {"direct", "known"}
        assert record.kept == (record.validation < least)
        least = min(least, record.validation)
    assert isinstance(records[0], JointRecord)


def test_the_rate_that_is_found_gives_what_it_gives_when_given(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    learnt = JointSamples(samples(tokenizer, "known") * 4, samples(tokenizer, "known", 10), FREE)

    def tuned(rate: float | str) -> tuple[JointTuner, list[JointRecord], dict]:
        model = tiny.build_model("llama").requires_grad_(False)
        tuner = JointTuner(
            model, learnt, HEADS, SETTINGS.replace({"joint_learning_rate": rate, "joint_epochs": 4})
        )
        return tuner, list(tuner.tune()), tiny.state(model)

    tuner, records, state = tuned("auto")
    assert list(tuner.tried) == [3e-3, 1e-3]  # a tiny model learns at the first
    assert tuner.tried[3e-3] < min(list(tuner.tried.values())[1:])
    assert tuner.rate == records[-1].learning_rate == 3e-3
    _, expected, same = tuned(3e-3)
    assert [one.loss for one in records[1:]] == [one.loss for one in expected[1:]]
    assert all(torch.equal(state[name], same[name]) for name in state)


@pytest.mark.parametrize("too_high", [math.inf, 1.0])
def test_lower_rates_are_tried_as_long_as_they_are_better(
    too_high: float, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = samples(tokenizer, "known")
    model = tiny.build_model("llama").requires_grad_(False)
    settings = SETTINGS.replace({"joint_learning_rate": "auto"})
    tuner = JointTuner(model, JointSamples(pairs, pairs), HEADS, settings)
    train = tuner._train

    def judged(batches: list[list[int]], shown: bool = True) -> list[float]:
        """The first two rates are too high, and the fourth is too low."""
        losses, order = train(batches, shown), [too_high, too_high / 2, 0.1, 0.2]
        return [order[len(tuner.tried)]] * len(losses) if len(tuner.tried) < 4 else losses

    monkeypatch.setattr(tuner, "_train", judged)
    records = list(tuner.tune())
    assert list(tuner.tried) == [3e-3, 1e-3, 3e-4, 1e-4]
    assert records[-1].learning_rate == 3e-4


def test_a_loss_that_is_not_finite_ends_the_tuning(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = samples(tokenizer, "known")
    model = tiny.build_model("llama").requires_grad_(False)
    before = tiny.state(model)
    tuner = JointTuner(model, JointSamples(tuning, tuning), HEADS, SETTINGS)
    monkeypatch.setattr(
        tuner.optimizer, "losses_of", lambda *_: [torch.tensor(math.nan, requires_grad=True)]
    )
    assert [record.epoch for record in tuner.tune()] == [0]
    assert tiny.same(before, model)


def test_of_a_model_that_says_no_number_the_untouched_state_is_kept(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    tuning = samples(tokenizer, "known")
    model = tiny.build_model("llama").requires_grad_(False)
    model.get_output_embeddings().weight.mul_(math.nan)
    records = list(JointTuner(model, JointSamples(tuning, tuning), HEADS, SETTINGS).tune())
    assert [(record.epoch, record.kept) for record in records] == [(0, True)]


def test_layers_that_share_their_weights_have_one_change() -> None:
    model = architectures.build("zamba2").requires_grad_(False)
    geometry = HeadGeometry.of(model)
    shared = [layer for layer in geometry.modules if geometry.firsts[layer] != layer]
    first = geometry.firsts[shared[0]]
    heads = [Head(first, 0, 0.0), Head(shared[0], 1, 0.0)]
    slices, columns = joint_slices(model, heads, SETTINGS)
    names = {where.module for where in slices}
    weights = {model.get_submodule(name).weight for name in names}
    assert len(weights) == len(names) == 4  # queries, keys, values, output
    (own,) = columns.values()
    assert int(own.sum()) == 2 * len(own) // geometry.heads


def test_slices_are_joined_and_each_row_is_there_once() -> None:
    parts = [RowSlice("a", 4, 8), RowSlice("b", 0, 2), RowSlice("a", 0, 4), RowSlice("a", 4, 8)]
    parts += [RowSlice("a", 10, 12)]
    assert joined(parts) == [RowSlice("a", 0, 8), RowSlice("a", 10, 12), RowSlice("b", 0, 2)]


def test_the_area_under_the_curve_is_that_of_sklearn() -> None:
    from sklearn.metrics import roc_auc_score

    odds = torch.randint(-3, 4, (20, 2), generator=torch.Generator().manual_seed(0)).double()
    found = verdicts(torch.stack([odds, torch.zeros_like(odds)], dim=-1))
    labels = [True, False] * 20
    assert found.auc == pytest.approx(roc_auc_score(labels, odds.flatten()))
    said = (odds > 0).flatten().tolist()
    assert found.accuracy == pytest.approx(
        sum(one == label for one, label in zip(said, labels, strict=True)) / 40
    )
    assert found.yes_rate == pytest.approx(sum(said) / 40)
