"""What a head carries is the slope of the loss along its change, and what is taken back is gone."""

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import tiny
from joint_samples import HEADS, SETTINGS, literal_chances, literal_loss, samples
from nasalign.config import Settings
from nasalign.nas.heads import Head
from nasalign.nasa_plus.head_effects import head_effects, sizes_kept
from nasalign.nasa_plus.head_parts import head_shares, joint_slices
from nasalign.nasa_plus.joint_pairs import JointRecord, JointSamples, PromptPair
from nasalign.nasa_plus.joint_tuning import JointTuner


def loss_of(model: PreTrainedModel, pairs: list[PromptPair]) -> float:
    """-log P(right word), a mean over kinds of pairs."""
    kinds: dict[str, list[float]] = {}
    with torch.no_grad():
        for pair in pairs:
            (yes, _), (_, no) = (literal_chances(model, one) for one in (pair.right, pair.wrong))
            kinds.setdefault(pair.kind, []).append(-float(yes.log() + no.log()) / 2)
    means = [sum(part) / len(part) for part in kinds.values()]
    return sum(means) / len(means)


def tuned(
    name: str, tokenizer: PreTrainedTokenizerFast
) -> tuple[JointTuner, list[PromptPair], list[JointRecord]]:
    model = tiny.build_model(name).double().requires_grad_(False)
    held = samples(tokenizer, "a", 10) + samples(tokenizer, "b", 30)[:2]
    learnt = JointSamples(samples(tokenizer, "a") + samples(tokenizer, "b", 5), held)
    tuner = JointTuner(model, learnt, HEADS, SETTINGS)
    history = list(tuner.tune())
    assert any(record.kept and record.epoch for record in history)
    return tuner, held, history


def write_gated(tuner: JointTuner, gates: dict[Head, float]) -> None:
    """Literally: the rows and columns of each head with so much of their change."""
    tuner.restore()
    before = {name: one.clone() for name, one in tuner.model.state_dict().items()}
    tuner.write()
    after = {name: one.clone() for name, one in tuner.model.state_dict().items()}
    tuner.restore()
    whole = head_shares(tuner.model, HEADS, tuner.settings)
    with torch.no_grad():
        for head, gate in gates.items():
            mine = head_shares(tuner.model, [head], tuner.settings)
            for part, (own, every) in enumerate(zip(mine, whole, strict=True)):
                for name, has in own.items():
                    share = has[:, 0] / (every[name] > 0).sum(dim=1).clamp(min=1)
                    change = after[f"{name}.weight"] - before[f"{name}.weight"]
                    scaled = change * (share[None] if part else share[:, None]) * gate
                    tuner.model.get_submodule(name).weight += scaled


@pytest.mark.parametrize("name", ["llama", "phi3", "gpt_neox"])
def test_effects_are_slopes_of_the_loss_half_way(
    name: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    tuner, held, history = tuned(name, tokenizer)
    found = head_effects(tuner, history)
    step = 3e-3  # eager attention takes its softmax in float32
    for row in found.heads:
        ends = []
        for sign in (1, -1):
            gates = dict.fromkeys(HEADS, 0.5)
            own = next(head for head in HEADS if head[:2] == (row["layer"], row["head"]))
            gates[own] += sign * step
            write_gated(tuner, gates)
            ends.append(loss_of(tuner.model, held))
        assert row["effect"] == pytest.approx((ends[1] - ends[0]) / (2 * step), rel=1e-3, abs=1e-6)
    effects = [row["effect"] for row in found.heads]
    assert effects == sorted(effects, reverse=True)


def test_what_is_taken_back_is_gone_and_the_model_is_left_as_tuned(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    tuner, held, history = tuned("llama", tokenizer)
    after = tiny.state(tuner.model)
    found = head_effects(tuner, history)
    assert tiny.same(after, tuner.model)
    assert sizes_kept(len(HEADS)) == [1, 2]
    assert [row["heads"] for row in found.kept] == [0, 1, 2, 4]
    ends = []
    for row in found.kept:
        stay = [(one["layer"], one["head"]) for one in found.heads[: int(row["heads"])]]
        write_gated(tuner, {head: float(head[:2] in stay) for head in HEADS})
        with torch.no_grad():
            parts = [[pair for pair in held if pair.kind == kind] for kind in ("a", "b")]
            losses = [float(literal_loss(tuner.model, part)) for part in parts]
        assert row["loss"] == pytest.approx(sum(losses) / 2, rel=1e-7)
        ends.append(loss_of(tuner.model, held))
    total = ends[0] - ends[-1]
    assert sum(one["effect"] for one in found.heads) == pytest.approx(total, rel=0.2)


def test_shared_rows_belong_to_their_heads_in_equal_shares() -> None:
    model = tiny.build_model("llama").requires_grad_(False)
    heads = [Head(1, 0, 0.0), Head(1, 1, 0.0), Head(2, 3, 0.0)]
    rows, columns = head_shares(model, heads, Settings())
    for name, shares in (rows | columns).items():
        sums = shares.sum(dim=1)
        assert ((sums == 0) | ((sums - 1).abs() < 1e-12)).all(), name
    slices, _ = joint_slices(model, heads, Settings())
    for where in slices:
        if where.module in rows:
            assert (rows[where.module][where.start : where.stop].sum(dim=1) > 0).all()
