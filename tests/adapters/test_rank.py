"""An adapter of low rank is the best approximation, plain for PEFT, and says what it lacks."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedModel

import tiny
from aligned import aligned
from nasalign.adapters.adapter import Adapter, load_adapter
from nasalign.adapters.adapter_file import read_adapter
from nasalign.adapters.rank import reduce_adapter
from nasalign.errors import ModelError, NasAlignError
from nasalign.head_rows.rows import head_slices, read_weight_rows, write_rows
from nasalign.models.geometry import HeadGeometry
from nasalign.models.head_layouts import RowSlice
from nasalign.models.loading import fingerprint

FAMILIES = ("llama", "phi3", "gpt_neox")
Weights = dict[str, torch.Tensor]


def base(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).eval()


def merged(folder: Path, adapter: Path) -> Weights:
    return PeftModel.from_pretrained(base(folder), adapter).merge_and_unload().state_dict()


def changes(after: Weights, before: Weights) -> Weights:
    return {
        name: (after[name] - tensor).double()
        for name, tensor in before.items()
        if not torch.equal(after[name], tensor)
    }


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rank", [1, 8, 20])
def test_peft_loads_the_nearest_change_of_that_rank(family: str, rank: int, tmp_path: Path) -> None:
    run = aligned(tmp_path, family)
    untouched = base(tmp_path).state_dict()
    exact = changes(merged(tmp_path, run / "adapter"), untouched)
    found = reduce_adapter(run / "adapter", tmp_path / "low", rank)
    low = merged(tmp_path, tmp_path / "low")
    lost = whole = 0.0
    for name, change in exact.items():
        left, size, right = torch.linalg.svd(change, full_matrices=False)
        best = (left[:, :rank] * size[:rank]) @ right[:rank]
        got = (low[name] - untouched[name]).double()
        torch.testing.assert_close(got, best, atol=2e-6, rtol=0)
        tail = float(size[rank:].norm() / size.norm())
        module = name.removesuffix(".weight")
        assert found.modules[module] == pytest.approx(tail, abs=1e-5)
        lost, whole = lost + float(size[rank:].norm()) ** 2, whole + float(size.norm()) ** 2
    assert len(found.modules) == len(exact)
    assert found.error == pytest.approx((lost / whole) ** 0.5, abs=1e-5)
    assert 0 < found.error < 1


@pytest.mark.parametrize(("asked", "rank"), [(20, 20), (500, 32)])
def test_it_is_plain_of_one_rank_and_exact_where_that_suffices(
    asked: int, rank: int, tmp_path: Path
) -> None:
    run = aligned(tmp_path, heads=((0, 0), (0, 1), (2, 3)))
    found = reduce_adapter(run / "adapter", tmp_path / "low", asked)
    config = json.loads((tmp_path / "low" / "adapter_config.json").read_text())
    assert found.rank == config["r"] == config["lora_alpha"] == rank
    assert (config["rank_pattern"], config["alpha_pattern"]) == ({}, {})
    tensors = load_file(tmp_path / "low" / "adapter_model.safetensors")
    ranks = {tensor.shape[0 if ".lora_A." in name else 1] for name, tensor in tensors.items()}
    assert ranks == {rank}  # the key rows of a head are 16 only, and padded
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    if asked > rank:
        assert found.error < 1e-6
        untouched = base(tmp_path).state_dict()
        exact = changes(merged(tmp_path, run / "adapter"), untouched)
        low = changes(merged(tmp_path, tmp_path / "low"), untouched)
        torch.testing.assert_close(low, exact, atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_nasalign_loads_it_as_peft_does(family: str, tmp_path: Path) -> None:
    run = aligned(tmp_path, family)
    reduce_adapter(run / "adapter", tmp_path / "low", 4)
    model = base(tmp_path)
    untouched = tiny.state(model)
    adapter = load_adapter(tmp_path / "low", model)
    exact = load_adapter(run / "adapter", model)
    assert set(adapter.after) == set(exact.after)
    for folder in (tmp_path / "low", run / "adapter"):
        assert read_adapter(folder).changed_weights == exact.parameters
    adapter.apply(model)
    expected = merged(tmp_path, tmp_path / "low")
    torch.testing.assert_close(dict(model.state_dict()), dict(expected), atol=1e-6, rtol=0)
    with pytest.raises(ModelError):
        load_adapter(tmp_path / "low", model)  # the change would be added twice
    adapter.revert(model)
    assert tiny.same(untouched, model)


def test_rows_of_which_nothing_is_left_are_still_known(tmp_path: Path) -> None:
    """Only the largest of changes that have nothing in common is kept; the others are zero."""
    aligned(tmp_path)
    model = base(tmp_path)
    print_of_base = fingerprint(model)
    [where] = head_slices(HeadGeometry.of(model), 1, 1, "none")
    before = {where: read_weight_rows(model, where)}
    change = torch.zeros_like(before[where])
    change[torch.arange(1, 16), torch.arange(1, 16)] = torch.arange(1.0, 16.0)  # the first has none
    write_rows(model, where, before[where] + change)
    Adapter.between(before, model, print_of_base).save(tmp_path / "exact", "base")
    found = reduce_adapter(tmp_path / "exact", tmp_path / "low", 1)
    loaded = load_adapter(tmp_path / "low", base(tmp_path))
    [left] = (loaded.after[one] - loaded.before[one] for one in loaded.after)
    assert (left.abs() > 1e-6).nonzero().tolist() == [[15, 15]]
    assert found.error == pytest.approx((1 - 15**2 / float(change.square().sum())) ** 0.5)


def test_a_reduced_adapter_is_not_reduced_again(tmp_path: Path) -> None:
    run = aligned(tmp_path)
    assert read_adapter(run / "adapter").origin.reduction is None
    found = reduce_adapter(run / "adapter", tmp_path / "low", 4)
    assert read_adapter(tmp_path / "low").origin.reduction == found
    with pytest.raises(NasAlignError, match="reduced to rank 4 already; reduce the exact one"):
        reduce_adapter(tmp_path / "low", tmp_path / "lower", 2)
    assert not (tmp_path / "lower").exists()


def test_what_was_tuned_at_a_low_rank_is_reduced_further_or_left(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    model = tiny.build_model("llama", layers=1)
    name = "model.layers.0.self_attn.o_proj"
    weight = model.get_submodule(name).weight
    a, b = (torch.randn(*shape, generator=generator) / 10 for shape in ((8, 64), (64, 8)))
    where = RowSlice(name, 0, 64)
    before = {where: weight.detach().clone()}
    after = {where: weight.detach() + b @ a}
    Adapter(before, after, {name: 64}, "x", {name: (a, b)}).save(tmp_path / "whole", "base")
    file = read_adapter(tmp_path / "whole")
    assert (file.rank, file.origin.lacking, file.changed_weights) == (8, None, 64 * 64)
    for rank, lacks in ((16, False), (8, False), (3, True)):
        found = reduce_adapter(tmp_path / "whole", tmp_path / str(rank), rank)
        first, second = read_adapter(tmp_path / str(rank)).changes[name]
        assert len(first) == found.rank == min(rank, 8)
        error = float((b @ a - second @ first).norm() / (b @ a).norm())
        assert found.error == pytest.approx(error, abs=1e-5)
        assert (error > 0.1) == lacks
    with pytest.raises(NasAlignError, match="reduced to rank 3 already"):
        reduce_adapter(tmp_path / "3", tmp_path / "again", 2)
