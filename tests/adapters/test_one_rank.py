"""Whoever makes an adapter, a reader that knows no patterns of ranks makes our model of it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import plain_reader
from aligned import HEADS, aligned
from fault_tools import done
from nasalign.adapters.adapter import load_adapter
from nasalign.config import KeyScope
from nasalign.models.loading import load


def ranks(adapter: Path) -> tuple[set[int], set[int]]:
    """The ranks of the tensors, and how many rows of each module are changed."""
    tensors = load_file(adapter / "adapter_model.safetensors")
    found = {len(one) for name, one in tensors.items() if ".lora_A." in name}
    rows = {int(one.any(dim=1).sum()) for name, one in tensors.items() if ".lora_A." in name}
    return found, rows


def check(base: Path, run: Path, place: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of a merged export are those of the plain reader, to the bit."""
    done("export", run, place / "merged")
    done("export", run, place / "alone", "--format", "adapter")
    ours = load_file(place / "merged" / "model.safetensors")
    before = load_file(base / "model.safetensors")
    for adapter in (run / "adapter", place / "alone"):
        theirs = plain_reader.merged(before, adapter)
        assert set(theirs) == set(ours)
        assert [name for name, one in ours.items() if not torch.equal(theirs[name], one)] == []
    assert [name for name, one in ours.items() if not torch.equal(before[name], one)]
    return before, ours


@pytest.mark.parametrize("scope", ["group", "none"])
@pytest.mark.parametrize("family", ["llama", "phi3", "gpt_neox", "qwen2", "gemma3"])
def test_it_computes_our_weights_to_the_bit(family: str, scope: KeyScope, tmp_path: Path) -> None:
    run = aligned(tmp_path, family, scope=scope)
    check(tmp_path / "model", run, tmp_path)
    found, rows = ranks(run / "adapter")
    assert found == {max(rows)}
    assert len(rows) > 1 or (family, scope) == ("gpt_neox", "group")


def test_two_heads_of_a_group_do_not_double_the_keys(tmp_path: Path) -> None:
    """Their queries have twice the rows that their keys have; alpha is that of the queries."""
    run = aligned(tmp_path, heads=HEADS[:2])
    before, after = check(tmp_path / "model", run, tmp_path)
    assert ranks(run / "adapter") == ({32}, {32, 16})
    name = "model.layers.0.self_attn.k_proj.weight"
    tensors = load_file(run / "adapter" / "adapter_model.safetensors")
    change = after[name] - before[name]
    [alone] = [
        one for key, one in tensors.items() if key.endswith("0.self_attn.k_proj.lora_A.weight")
    ]
    assert change[:16].abs().max() == pytest.approx(float(alone.abs().max()), rel=1e-4)
    assert not change[16:].any()


def test_a_reduced_one_is_near(tmp_path: Path) -> None:
    run = aligned(tmp_path)
    done("export", run, tmp_path / "low", "--format", "adapter", "--rank", "8")
    model, _ = load(tmp_path / "model", dtype="float32")
    before = {name: one.clone() for name, one in model.state_dict().items()}
    load_adapter(tmp_path / "low", model).apply(model)
    theirs = plain_reader.merged(before, tmp_path / "low")
    torch.testing.assert_close(theirs, dict(model.state_dict()), atol=1e-6, rtol=0)
    assert ranks(tmp_path / "low")[0] == {8}
