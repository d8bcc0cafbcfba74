"""LoFiT and JoLA: which heads they change, by what, and how gates open."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import tiny
from nasalign.errors import ModelError
from nasalign.models.geometry import HeadGeometry
from nasalign.models.output_projections import attention_outputs
from nasalign.rivals import rate_search as room
from nasalign.rivals.head_edits import LOFIT, GatedEdits, HeadOffsets, HeadScales
from rivals.material import CITY_PAIRS, hooks, learnable, logits, material, same_in_a_batch

Tiny = tuple[PreTrainedModel, PreTrainedTokenizerFast]
EDITED = ["llama", "qwen2", "phi3", "gpt_neox", "gemma2", "mixtral"]


def filled(change: nn.Module, seed: int = 0) -> None:
    """Puts noise into all that is trained."""
    generator = torch.Generator().manual_seed(seed)
    for one in change.parameters():
        one.data.copy_(torch.randn(one.shape, generator=generator))
    change.eval()


def entering(model: PreTrainedModel, layer: int) -> Tensor:
    """What enters the output projection of a layer, [T, H, size]."""
    heads = HeadGeometry.of(model).attention[layer]
    assert heads
    seen: list[Tensor] = []
    module = model.get_submodule(attention_outputs(model)[layer])
    hook = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    logits(model)
    hook.remove()
    return seen[0][0].unflatten(-1, (heads.heads, -1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", EDITED)
def test_offsets_change_only_the_heads_that_are_chosen(family: str, dtype: torch.dtype) -> None:
    model = tiny.build_model(family, layers=2, dtype=dtype)
    change = HeadOffsets(model, [(0, 2), (0, 1)])
    filled(change)
    plain, said = entering(model, 0), logits(model)
    with change.on(model):
        moved, other = entering(model, 0), logits(model)
    assert moved.dtype == dtype
    assert moved[:, [0, 3]].equal(plain[:, [0, 3]])
    offsets = change.offsets["0"].detach()  # in the order of the heads
    torch.testing.assert_close(moved[:, [1, 2]], (plain[:, [1, 2]] + offsets).to(dtype))
    assert not other.equal(said)
    assert logits(model).equal(said)
    assert change.numbers == 2 * plain.shape[-1]
    assert hooks(model) == 0


def test_scales_multiply_every_head(llama: Tiny) -> None:
    model, _ = llama
    change = HeadScales(model)
    plain = entering(model, 0)
    with change.on(model):
        assert entering(model, 0).equal(plain)  # untrained, it is no change
    filled(change)
    with change.on(model):
        moved = entering(model, 0)
    torch.testing.assert_close(moved, plain * (1 + change.scales["0"]))
    expected = sum(one.abs().sum() for one in change.scales.values())
    torch.testing.assert_close(change.penalty(), 1e-3 * expected)


def test_the_heads_of_largest_norm_are_chosen(llama: Tiny) -> None:
    model, _ = llama
    change = HeadScales(model)
    change.scales["1"].data[3] = 0.1
    change.scales["0"].data[2] = -0.2
    change.scales["2"].data[1, 0] = 0.3  # a large number, and yet a smaller norm
    assert change.largest(3) == [(0, 2), (1, 3), (2, 1)]
    assert change.largest(5)[3:] == [(0, 0), (0, 1)]


def test_lofit_trains_a_tenth_of_the_heads_and_names_them(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five layers of four heads: two heads."""
    monkeypatch.setattr(room, "training_pairs", lambda _: CITY_PAIRS)
    monkeypatch.setattr(room, "check_better", lambda *_: None)
    given = learnable(tiny.build_model("llama", layers=5), tokenizer)
    fitted = LOFIT.fit(given)
    change = fitted.on.__self__  # type: ignore[attr-defined]
    named = sorted(tuple(one) for one in fitted.chosen["heads"])
    assert named == sorted(
        (layer, head) for layer in change.chosen for head in change.chosen[layer]
    )
    assert len(named) == 2
    first = min(layer for layer, _ in named)
    own = [head for layer, head in named if layer == first]
    plain = entering(given.model, first)
    with fitted.on(given.model):
        moved = entering(given.model, first)
    changed = (moved != plain).flatten(2).any(dim=-1).any(dim=0)
    assert changed.nonzero().flatten().tolist() == own
    size = plain.shape[-1]
    assert fitted.parameters == len(named) * size


@pytest.mark.parametrize("family", EDITED)
def test_gated_edits_are_the_papers_formula(family: str) -> None:
    """One head is scaled alone, one shifted alone, one both, and one is not changed."""
    model = tiny.build_model(family, layers=2)
    change = GatedEdits(model)
    plain = entering(model, 0)
    change.eval()
    with change.on(model):
        assert entering(model, 0).equal(plain)
    filled(change)
    closed, half = -20.0, 0.0
    change.log_gates["0"].data.copy_(
        torch.tensor([[20.0, closed, half, closed], [closed, 20.0, half, closed]])
    )
    with change.on(model):
        moved = entering(model, 0)
    scale, shift = change.scales["0"].detach(), change.offsets["0"].detach()
    torch.testing.assert_close(moved[:, 0], plain[:, 0] * (1 + scale[0]))
    torch.testing.assert_close(moved[:, 1], plain[:, 1] + shift[1])
    torch.testing.assert_close(moved[:, 2], plain[:, 2] * (1 + scale[2] / 2) + shift[2] / 2)
    assert moved[:, 3].equal(plain[:, 3])
    change.log_gates["1"].data.fill_(closed)
    assert change.open_gates() == {"heads scaled": 2, "heads shifted": 2}


def test_gates_are_drawn_from_the_hard_concrete_distribution(llama: Tiny) -> None:
    """The shares of gates that are shut and that are wide open are those of its formula."""
    model, _ = llama
    change, generator = GatedEdits(model), torch.Generator().manual_seed(0)
    change.log_gates["0"].data.fill_(0.4)
    change.train()
    drawn = []
    for _ in range(1500):
        change.draw(generator)
        drawn.append(change.gates(0).detach())
    gates = torch.stack(drawn)
    assert gates.min() == 0
    assert gates.max() == 1
    shut = 1 / (1 + math.exp(0.4 - 0.33 * math.log(0.1 / 1.1)))
    wide = 1 / (1 + math.exp(-0.4 + 0.33 * math.log(1.1 / 0.1)))
    assert float((gates == 0).float().mean()) == pytest.approx(shut, abs=0.02)
    assert float((gates == 1).float().mean()) == pytest.approx(wide, abs=0.02)
    again = torch.Generator().manual_seed(0)
    change.draw(again)
    assert change.gates(0).equal(drawn[0])
    change.eval()
    assert change.gates(0).unique().numel() == 1


def test_the_penalty_is_the_expected_number_of_open_gates(llama: Tiny) -> None:
    model, _ = llama
    change = GatedEdits(model)
    for one in change.log_gates.values():
        one.data.fill_(0.4)
    opened = 1 / (1 + math.exp(-0.4 + 0.33 * math.log(0.1 / 1.1)))
    assert float(change.penalty()) == pytest.approx(0.1 * 2 * opened, rel=1e-5)


@pytest.mark.parametrize("kind", [HeadScales, GatedEdits])
def test_in_a_batch_with_a_shared_prefix_it_does_what_it_does_to_a_prompt_alone(
    llama: Tiny, kind: type[HeadScales | GatedEdits]
) -> None:
    given = material(*llama)
    change = kind(given.model)
    filled(change)
    with change.on(given.model):
        same_in_a_batch(given)


def test_heads_whose_outputs_cannot_be_reached_are_refused(llama: Tiny) -> None:
    model, _ = llama
    model.model.layers[1].self_attn.o_proj = nn.Identity()
    with pytest.raises(ModelError, match="Nothing can be masked or edited in LlamaForCausalLM"):
        GatedEdits(model)
