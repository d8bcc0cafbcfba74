"""An adapter is the change of the rows: exact, revertible, and any PEFT runtime can read it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

import tiny
from nasalign.adapters.adapter import Adapter, load_adapter
from nasalign.adapters.adapter_file import read_adapter
from nasalign.errors import ModelError, NasAlignError
from nasalign.head_rows.rows import head_slices, read_weight_rows, write_rows
from nasalign.models.geometry import HeadGeometry
from nasalign.models.head_layouts import RowSlice
from nasalign.models.loading import fingerprint
from tiny import same, state

LAYOUTS = ("llama", "phi3", "gpt_neox", "qwen2")  # apart, fused, interleaved, with bias
HEADS = ((0, 0), (0, 1), (2, 3), (2, 1), (1, 2))  # (0, 0) and (0, 1) share a key group
UNTOUCHED = (0, 3)  # selected, but its update was cancelled
IDS = torch.randint(5, 500, (2, 20), generator=torch.Generator().manual_seed(3))

each_layout = pytest.mark.parametrize("name", LAYOUTS)


@torch.no_grad()
def logits(model: torch.nn.Module) -> Tensor:
    output: Tensor = model(IDS).logits
    return output


def slices(model: PreTrainedModel, *heads: tuple[int, int]) -> list[RowSlice]:
    geometry = HeadGeometry.of(model)
    return [where for head in heads for where in head_slices(geometry, *head, "group")]


def tuned(name: str, dtype: torch.dtype = torch.float32) -> tuple[PreTrainedModel, Adapter]:
    """A model with random changes to some heads, and the adapter of the change."""
    model = tiny.build_model(name, dtype=dtype)
    base = fingerprint(model)
    before = {where: read_weight_rows(model, where) for where in slices(model, *HEADS, UNTOUCHED)}
    generator = torch.Generator().manual_seed(5)
    for where in slices(model, *HEADS):
        rows = read_weight_rows(model, where)
        write_rows(model, where, rows + 0.05 * torch.randn(rows.shape, generator=generator))
    return model, Adapter.between(before, model, base)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The file of the tensors of an adapter."""
    tuned("llama")[1].save(tmp_path, "base")
    return tmp_path / "adapter_model.safetensors"


@each_layout
def test_only_changed_rows_are_kept(name: str) -> None:
    model, adapter = tuned(name)
    changed = set(slices(model, *HEADS))
    assert set(adapter.before) == set(adapter.after) == changed
    assert set(slices(model, UNTOUCHED)) - changed  # one slice at least is left out
    assert adapter.parameters == 16 * 64 * len(changed)
    assert len(changed) == (10 if name == "gpt_neox" else 9)  # a shared key counts once


@each_layout
def test_applying_and_reverting_are_exact_to_the_bit(name: str) -> None:
    model, adapter = tuned(name)
    after, untouched = state(model), state(tiny.build_model(name))
    with adapter.on(model):  # applied already, and so it stays
        assert same(after, model)
    assert same(after, model)
    adapter.revert(model)
    assert same(untouched, model)
    with adapter.on(model):
        assert same(after, model)
    with pytest.raises(KeyboardInterrupt), adapter.on(model):
        raise KeyboardInterrupt
    assert same(untouched, model)
    adapter.apply(model)
    assert same(after, model)


def test_an_adapter_that_is_applied_by_half_is_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    model, adapter = tuned("llama")
    adapter.revert(model)
    untouched, where = state(model), next(iter(adapter.after))

    def half(self: Adapter, model: PreTrainedModel) -> None:
        write_rows(model, where, self.after[where])
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Adapter, "apply", half)
    with pytest.raises(torch.OutOfMemoryError), adapter.on(model):
        pass
    assert same(untouched, model)


@each_layout
def test_merged_by_peft_it_is_the_tuned_model(name: str, tmp_path: Path) -> None:
    model, adapter = tuned(name)
    adapter.save(tmp_path, "somebody/base")
    base = tiny.build_model(name)
    plain, untouched = logits(base), state(base)
    wrapped = PeftModel.from_pretrained(base, tmp_path)
    expected = logits(model)
    assert (expected - plain).abs().max() > 0.05
    torch.testing.assert_close(logits(wrapped), expected, atol=1e-5, rtol=0)
    merged = wrapped.merge_and_unload()
    torch.testing.assert_close(logits(merged), expected, atol=1e-5, rtol=0)
    values = state(merged)
    assert set(values) == set(untouched)
    for where in set(slices(model, *HEADS)):
        rows = slice(where.start, where.stop)
        weight = f"{where.module}.weight"
        torch.testing.assert_close(values[weight][rows], read_weight_rows(model, where))
        values[weight][rows] = untouched[weight][rows]
    assert all(torch.equal(untouched[key], tensor) for key, tensor in values.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@each_layout
def test_loaded_and_applied_it_is_the_tuned_model(
    name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    model, adapter = tuned(name, dtype)
    adapter.save(str(tmp_path), tmp_path / "base")  # as text or as a path
    assert read_adapter(tmp_path).base_model == "base"
    base = tiny.build_model(name, dtype=dtype)
    untouched = state(base)
    loaded = load_adapter(str(tmp_path), base)
    assert same(untouched, base)
    assert loaded.parameters == adapter.parameters
    assert loaded.out_features == adapter.out_features
    assert loaded.base_fingerprint == adapter.base_fingerprint
    loaded.apply(base)
    for where in slices(model, *HEADS, UNTOUCHED):
        expected = read_weight_rows(model, where)
        torch.testing.assert_close(read_weight_rows(base, where), expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(logits(base), logits(model), atol=1e-5, rtol=0)
    loaded.revert(base)
    assert same(untouched, base)


@each_layout
def test_all_modules_have_one_rank_filled_up_with_zeros(name: str, tmp_path: Path) -> None:
    model, adapter = tuned(name)
    folder = tmp_path / "new" / "folder"
    adapter.save(folder, "somebody/base")
    config = json.loads((folder / "adapter_config.json").read_text())
    rows: dict[str, int] = {}
    for where in set(slices(model, *HEADS)):
        rows[where.module] = rows.get(where.module, 0) + where.stop - where.start
    rank = max(rows.values())
    assert config["base_model_name_or_path"] == "somebody/base"
    assert (config["r"], config["lora_alpha"]) == (rank, rank)
    assert config["rank_pattern"] == config["alpha_pattern"] == {}
    tensors = load_file(folder / "adapter_model.safetensors")
    assert len(tensors) == 2 * len(rows)
    assert len(set(rows.values())) > 1
    for module, real in rows.items():
        change, selector = (
            tensors[f"base_model.model.{module}.lora_{part}.weight"] for part in "AB"
        )
        assert change.shape == (rank, 64)
        assert selector.sum(dim=0).tolist() == [1.0] * real + [0.0] * (rank - real)
        assert selector.sum(dim=1).max() == 1.0
        assert not change[real:].any()
    file = read_adapter(folder)
    assert {module: len(rows) for module, rows in file.rows.items()} == rows
    assert file.changed_weights == adapter.parameters


@pytest.mark.parametrize(
    ("name", "options"),
    [("llama", {"seed": 1}), ("mistral", {}), ("llama", {"dtype": torch.bfloat16})],
)
def test_an_adapter_of_another_model_is_refused(name: str, options: Any, saved: Path) -> None:
    with pytest.raises(
        ModelError, match=r"was made for .*, which is another model or another dtype"
    ):
        load_adapter(saved.parent, tiny.build_model(name, **options))


@pytest.mark.parametrize("head", [(0, 0), (1, 1), (2, 2)])
def test_an_aligned_model_does_not_take_its_adapter_a_second_time(
    head: tuple[int, int], tmp_path: Path
) -> None:
    """The change would be added twice: the deltas are for the untouched rows."""
    model = tiny.build_model("llama")
    base = fingerprint(model)
    [where] = head_slices(HeadGeometry.of(model), *head, "none")
    before = {where: read_weight_rows(model, where)}
    write_rows(model, where, before[where] + 0.1)
    Adapter.between(before, model, base).save(tmp_path, "base")
    with pytest.raises(ModelError):
        load_adapter(tmp_path, model)


@pytest.mark.parametrize("metadata", ["{}", '{"base": 1', "one two three", "[]", None])
def test_a_foreign_adapter_is_refused(metadata: str | None, saved: Path) -> None:
    known = {"nasalign": metadata} if metadata else {"format": "pt"}
    save_file(load_file(saved), saved, metadata=known)
    with pytest.raises(ModelError, match="was not written by nasalign"):
        load_adapter(saved.parent, tiny.build_model("llama"))


def test_a_folder_without_an_adapter_is_named(tmp_path: Path) -> None:
    model = tiny.build_model("llama")
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ModelError, match=f"no adapter in {folder}"):
            load_adapter(folder, model)


def test_an_alignment_that_changed_nothing_has_an_empty_adapter(tmp_path: Path) -> None:
    model = tiny.build_model("llama")
    untouched = state(model)
    before = {where: read_weight_rows(model, where) for where in slices(model, *HEADS)}
    adapter = Adapter.between(before, model, fingerprint(model))
    assert adapter.parameters == 0
    assert (adapter.before, adapter.after, adapter.out_features) == ({}, {}, {})
    adapter.apply(model)
    assert same(untouched, model)
    with pytest.raises(NasAlignError, match="No row has changed"):
        adapter.save(tmp_path / "adapter", "base")


def test_a_folder_with_other_files_is_not_replaced(tmp_path: Path) -> None:
    _, adapter = tuned("llama")
    (tmp_path / "mine.txt").write_text("not an adapter")
    with pytest.raises(NasAlignError, match="holds no adapter to replace"):
        adapter.save(tmp_path, "base")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
