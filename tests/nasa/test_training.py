"""Training a head moves its rows and nothing else, by the gradient of the plain model."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import tiny
from nasalign.config import KeyScope, Settings
from nasalign.data.records import BinaryExample
from nasalign.head_rows.rows import TunableRows, head_slices, read_weight_rows
from nasalign.inference.scoring import Scores, score_prompts
from nasalign.models.geometry import HeadGeometry
from nasalign.models.head_layouts import RowSlice
from nasalign.nas.heads import Head
from nasalign.nasa import measuring
from nasalign.nasa.training import RowTuner
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder
from tiny import same, state

HEAD = Head(1, 2, 0.0)
BATCHES = {"tuning_batch_size": 4, "warmup_ratio": 0.0}
ANSWERS = ("Paris", "Rome", "the yen", "Au", "William Shakespeare", "1945")
PLACES = ("France", "Japan and the world", "gold", "Brazil", "Hamlet", "the war")

each_layout = pytest.mark.parametrize("name", ["llama", "phi3", "gpt_neox", "qwen2"])


def prompts(tokenizer: PreTrainedTokenizerFast) -> list[BinaryPrompt]:
    """Six prompts of unequal length."""
    builder = PromptBuilder(tokenizer)
    return [
        builder.binary(BinaryExample(f"What is there in {place}?", True, answer))
        for place, answer in zip(PLACES, ANSWERS, strict=True)
    ]


def tuner_of(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, **settings: object
) -> RowTuner:
    """A tuner whose D and V are the six prompts."""
    model.requires_grad_(False)
    samples = prompts(tokenizer)
    chosen = Settings().replace(BATCHES | settings)
    return RowTuner(model, samples, samples, chosen)


def test_the_share_of_yes_is_that_of_the_balance_set_and_nas_that_of_v(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    model, both = tiny.build_model("llama"), prompts(tokenizer)
    model.requires_grad_(False)
    said = score_prompts(model, both).verdicts
    plain = RowTuner(model, both[:4], both[:2], Settings())
    only_v = plain.measure()
    for balance in (both[2:], [one.mirrored() for one in both[2:]]):
        tuner = RowTuner(model, both[:4], both[:2], Settings(), balance=balance)
        now = tuner.measure()
        share = score_prompts(model, balance).verdicts.count("positive") / 4
        assert now.yes_share == share
        torch.testing.assert_close(now.nas, only_v.nas)
        torch.testing.assert_close(tuner.log_probabilities(), plain.log_probabilities())
    assert only_v.yes_share == said[:2].count("positive") / 2


@pytest.mark.parametrize(
    ("yes", "scored"), [(0, 16), (4, 16), (5, 40), (8, 40), (11, 40), (12, 16), (16, 16)]
)
def test_the_balance_set_is_scored_as_far_as_it_takes_to_tell(
    yes: int, scored: int, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.build_model("llama")
    model.requires_grad_(False)
    samples = prompts(tokenizer)
    balance = [samples[place % 6] for place in range(40)]
    done: list[int] = []
    tuner = RowTuner(model, samples, samples, Settings(), progress=done.append, balance=balance)
    tuner.measure()
    count = 0

    def scripted(model: object, part: list[BinaryPrompt], **options: object) -> Scores:
        nonlocal count
        found = score_prompts(model, part, **options)
        if options["record"]:  # V
            return found
        count += len(part)
        said = ["positive"] * yes + ["negative"] * (16 - yes)
        return replace(found, verdicts=(said if len(part) == 16 else ["positive"] * len(part)))

    monkeypatch.setattr(measuring, "score_prompts", scripted)
    done.clear()
    share = tuner.measure().yes_share
    assert count == scored
    assert sum(done) == 46  # what is not scored is not left to the progress bar
    assert share == (yes / 16 if scored == 16 else (yes + 24) / 40)


def test_the_rate_warms_up_over_its_share_of_the_steps_and_falls_by_a_cosine(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    rates = {"learning_rate": 1e-3, "warmup_ratio": 0.25, "epochs": 4}
    tuner = tuner_of(tiny.build_model("llama"), tokenizer, **rates)  # 8 steps, 2 of them warm up
    tuner.begin(HEAD)
    found = []
    with tuner.rows:
        for _ in range(8):
            found.append(tuner.optimizer.adam.param_groups[0]["lr"])
            tuner.optimizer.step([0, 1])
    falling = [1e-3 * (1 + math.cos(math.pi * step / 6)) / 2 for step in range(6)]
    assert found == pytest.approx([0.0, 5e-4, *falling])


def slices(model: PreTrainedModel, k_scope: KeyScope = "group") -> tuple[RowSlice, ...]:
    return head_slices(HeadGeometry.of(model), HEAD.layer, HEAD.head, k_scope)


@each_layout
@pytest.mark.parametrize("k_scope", ["group", "none"])
def test_only_the_rows_of_the_head_change(
    name: str, k_scope: KeyScope, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = tiny.build_model(name)
    before = state(model)
    tuner = tuner_of(model, tokenizer, learning_rate=1e-2, k_scope=k_scope)
    tuner.begin(HEAD)
    tuner.train_epoch()
    tuner.finish()
    after = state(model)
    mine = slices(model, k_scope)
    assert len(mine) == (2 if k_scope == "group" else 1)
    for where in mine:
        rows = slice(where.start, where.stop)
        weight = f"{where.module}.weight"
        assert (before[weight][rows] != after[weight][rows]).float().mean() > 0.99
        after[weight][rows] = before[weight][rows]
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(parameter.requires_grad for parameter in model.parameters())


@each_layout
def test_loss_and_gradient_are_those_of_the_whole_weight(
    name: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    """The mean over D of the loss of each prompt alone, on the positive word as next token."""
    model = tiny.build_model(name, dtype=torch.float64)
    weights = {where: model.get_submodule(where.module).weight for where in slices(model)}
    samples = prompts(tokenizer)
    losses = [
        functional.cross_entropy(
            model(torch.tensor([prompt.token_ids])).logits[:, -1],
            torch.tensor([prompt.answers.target]),
        )
        for prompt in samples
    ]
    expected = torch.stack(losses).mean()
    gradients = dict(
        zip(weights, torch.autograd.grad(expected, list(weights.values())), strict=True)
    )
    tuner = tuner_of(model, tokenizer, tuning_batch_size=len(samples))
    tuner.begin(HEAD)
    loss = tuner.train_epoch()
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    for where, parameter in tuner.rows.parameters.items():
        gradient = gradients[where][where.start : where.stop]
        assert parameter.dtype == torch.float64
        assert parameter.grad is not None
        assert gradient.abs().max() > 1e-4
        torch.testing.assert_close(parameter.grad.double(), gradient, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@each_layout
def test_restoring_is_exact_to_the_bit(
    name: str, dtype: torch.dtype, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = tiny.build_model(name, dtype=dtype)
    before = state(model)
    tuner = tuner_of(model, tokenizer, learning_rate=1e-2)
    tuner.begin(HEAD)
    tuner.train_epoch()
    assert not same(before, model)
    tuner.restore()
    for where, parameter in tuner.rows.parameters.items():
        assert torch.equal(parameter.detach(), read_weight_rows(model, where).float())
    tuner.finish()
    assert same(before, model)


def test_half_precision_weights_follow_float32_rows(tokenizer: PreTrainedTokenizerFast) -> None:
    """Steps of 1e-6 vanish in bfloat16 weights; the rows add them up until they count."""
    model = tiny.build_model("llama", dtype=torch.bfloat16)
    before = {where: read_weight_rows(model, where) for where in slices(model)}
    tuner = tuner_of(model, tokenizer, learning_rate=1e-6, tuning_batch_size=1, epochs=10)
    tuner.begin(HEAD)
    for _ in range(5):
        tuner.train_epoch()
    for where, rows in tuner.rows.parameters.items():
        moved = (rows.detach() - before[where].float()).abs()
        assert (moved > 0).float().mean() > 0.98
        assert moved.mean() > 2e-6  # more than two steps' worth
        written = read_weight_rows(model, where)
        assert torch.equal(written, rows.detach().to(torch.bfloat16))
        assert (written != before[where]).float().mean() < 0.2


def test_the_seed_decides_the_rows(tokenizer: PreTrainedTokenizerFast) -> None:
    def rows(seed: int) -> list[Tensor]:
        model = tiny.build_model("llama")
        tuner = tuner_of(model, tokenizer, learning_rate=1e-3, tuning_batch_size=2, seed=seed)
        tuner.begin(HEAD)
        tuner.train_epoch()
        tuner.train_epoch()
        return [read_weight_rows(model, where) for where in slices(model)]

    first, same, other = rows(1), rows(1), rows(2)
    assert all(torch.equal(*pair) for pair in zip(first, same, strict=True))
    assert not any(torch.equal(*pair) for pair in zip(first, other, strict=True))


@pytest.mark.parametrize("poison", [math.inf, math.nan])
def test_a_loss_that_is_not_finite_is_returned_without_a_step(
    poison: float, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = tiny.build_model("llama")
    last = prompts(tokenizer)[-1].token_ids
    rare = next(token for token in last if token not in prompts(tokenizer)[0].token_ids)
    model.get_input_embeddings().weight.data[rare] = poison  # "the war" alone overflows
    before = state(model)
    tuner = tuner_of(model, tokenizer, learning_rate=1e-2, tuning_batch_size=1)
    tuner.begin(HEAD)
    assert not math.isfinite(tuner.train_epoch())
    for rows in tuner.rows.parameters.values():
        assert rows.isfinite().all()
    torch.testing.assert_close(state(model), before, rtol=0, atol=0, equal_nan=True)
    tuner.restore()
    for where, rows in tuner.rows.parameters.items():
        assert torch.equal(
            rows.detach(), before[f"{where.module}.weight"][where.start : where.stop]
        )


def test_weight_decay_moves_nothing(tokenizer: PreTrainedTokenizerFast) -> None:
    """Rows without a gradient stay where they are at any learning rate."""
    model = tiny.build_model("llama")
    model.get_submodule(f"model.layers.{HEAD.layer}.self_attn.o_proj").weight.data.zero_()
    before = state(model)
    tuner = tuner_of(model, tokenizer, learning_rate=1.0)
    tuner.begin(HEAD)
    tuner.train_epoch()
    assert all(rows.grad is not None for rows in tuner.rows.parameters.values())
    assert same(before, model)


def test_validation_is_measured_with_the_weights_as_written(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    model = tiny.build_model("llama")
    tuner = tuner_of(model, tokenizer, learning_rate=2e-2, batch_size=4)
    first = tuner.measure()
    tuner.begin(HEAD)
    tuner.train_epoch()
    second = tuner.measure()
    scores = score_prompts(model, prompts(tokenizer), batch_size=4)
    assert torch.equal(second.nas, scores.nas.mean(dim=0))
    assert second.yes_share == scores.verdicts.count("positive") / 6
    assert second.of(HEAD) != first.of(HEAD)
    assert second.of(HEAD) == float(second.nas[HEAD.layer, HEAD.head])
    assert second.model == pytest.approx(float(scores.nas.sum(dim=(1, 2)).mean()), rel=1e-5)


def test_leaving_the_rows_leaves_the_model_as_it_was(tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny.build_model("phi3")
    model.requires_grad_(False)
    ids = torch.tensor([prompts(tokenizer)[0].token_ids])
    before = model(ids).logits
    rows = TunableRows(model, slices(model))
    for parameter in rows.parameters.values():
        parameter.data += 1.0
    with rows:
        assert not torch.allclose(model(ids).logits, before)
    assert torch.equal(model(ids).logits, before)
    rows.write()
    assert not torch.allclose(model(ids).logits, before)


def test_every_sample_is_counted(tokenizer: PreTrainedTokenizerFast) -> None:
    model, done = tiny.build_model("llama").requires_grad_(False), []
    samples = prompts(tokenizer)
    settings = Settings(batch_size=2, tuning_batch_size=4)
    tuner = RowTuner(model, samples, samples[:3], settings, progress=done.append)
    tuner.measure()
    tuner.begin(HEAD)
    tuner.train_epoch()
    assert done == [2, 1, 4, 2]
