"""A checkpoint in another dtype, and what it says of the change that is left in it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from aligned import aligned
from fault_tools import done, invoke, printed, refused, said
from nasalign.commands.export import export_job
from nasalign.commands.job import Job
from nasalign.errors import NasAlignError
from nasalign.models.loading import load


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_what_is_left_of_the_change_is_that_of_the_files(dtype: str, tmp_path: Path) -> None:
    run = aligned(tmp_path, change=3e-4)
    exported = export_job(Job(), run, tmp_path / "small", "merged", dtype)
    whole = export_job(Job(), run, tmp_path / "whole", "merged")
    assert (exported.dtype, whole.dtype) == (dtype, "float32")
    assert whole.rounding is None
    base, tuned, small = (weights(tmp_path / name) for name in ("model", "whole", "small"))
    assert {tensor.dtype for tensor in small.values()} == {getattr(torch, dtype)}
    assert json.loads((tmp_path / "small" / "config.json").read_text())["dtype"] == dtype
    assert set(small) == set(tuned) == set(base)
    exact = torch.cat([(tuned[name] - base[name]).flatten() for name in base]).double()
    stored = {name: base[name].to(small[name].dtype) for name in base}
    left = torch.cat([(small[name].double() - stored[name].double()).flatten() for name in base])
    found = exported.rounding
    assert found
    cosine = torch.cosine_similarity(exact, left, dim=0)
    entries = (left != 0).sum() / (exact != 0).sum()
    expected = [float(one) for one in (left.norm() / exact.norm(), cosine, entries)]
    assert [found.norm, found.cosine, found.entries] == pytest.approx(expected)
    assert found.entries < (0.6 if dtype == "bfloat16" else 0.99)
    card = (tmp_path / "small" / "README.md").read_text()
    assert f"{found.entries:.1%}".replace("%", " %") in card
    assert "to the bit" not in card
    assert "to the bit" in (tmp_path / "whole" / "README.md").read_text()


def test_a_change_that_the_dtype_has_no_room_for_is_refused(tmp_path: Path) -> None:
    run = aligned(tmp_path, change=1e-9, stored=torch.bfloat16)
    with pytest.raises(NasAlignError, match="Nothing of the change is left in bfloat16"):
        export_job(Job(), run, tmp_path / "out", "merged", "bfloat16")
    assert not (tmp_path / "out").exists()


def test_weights_that_the_dtype_cannot_hold_are_refused(tmp_path: Path) -> None:
    run = aligned(tmp_path, stored=torch.bfloat16, dtype="bfloat16")
    path = tmp_path / "model" / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.0.mlp.up_proj.weight"][50, 3] = 1e5  # not in what the fingerprint reads
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(NasAlignError, match=r"float16 cannot hold all of model.layers.0.mlp"):
        export_job(Job(), run, tmp_path / "out", "merged", "float16")
    export_job(Job(), run, tmp_path / "wide", "merged", "float32")


def test_the_base_is_loaded_in_the_dtype_in_which_it_was_tuned(tmp_path: Path) -> None:
    run = aligned(tmp_path, dtype="bfloat16")
    exported = export_job(Job(), run, tmp_path / "out", "merged")
    assert (exported.dtype, exported.rounding) == ("bfloat16", None)
    wide = export_job(Job(), run, tmp_path / "wide", "merged", "float32")
    assert wide.rounding
    assert (wide.rounding.norm, wide.rounding.entries) == (1, 1)
    same = zip(weights(tmp_path / "wide").values(), weights(tmp_path / "out").values(), strict=True)
    assert all(torch.equal(one, other.float()) for one, other in same)
    (run / "adapter").rename(tmp_path / "alone")
    job = Job(str(tmp_path / "model"))
    alone = export_job(job, tmp_path / "alone", tmp_path / "again", "merged")
    assert alone.dtype == "bfloat16"
    assert load(str(tmp_path / "again"), dtype="bfloat16")[0].dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--dtype", "float8"), "There is no dtype 'float8'"),
        (("--dtype", "float16", "--format", "adapter"), "--dtype is for a checkpoint"),
        (("--dtype", "float16", "--quantize", "8bit"), "leave out --dtype"),
        (("--rank", "4"), "--rank is for --format adapter"),
        (("--format", "gguf", "--quantize", "8bit"), "leave out --quantize"),
        (("--private",), "--private is for --push"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    run = aligned(tmp_path)
    assert sentence in refused(invoke("export", run, tmp_path / "out", *arguments))
    assert not (tmp_path / "out").exists()


def test_the_console_and_json_say_what_is_left(tmp_path: Path) -> None:
    run = aligned(tmp_path, change=3e-4)
    shown = said(done("export", run, tmp_path / "one", "--dtype", "bfloat16"))
    found = printed("export", run, tmp_path / "two", "--dtype", "bfloat16")
    assert found["dtype"] == found["rounding"]["dtype"] == "bfloat16"
    assert f"cosine {found['rounding']['cosine']:.4f}" in shown
