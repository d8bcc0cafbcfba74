"""An exported model loads as its card says, without nasalign, and both forms are the same model."""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import PreTrainedTokenizerFast

from aligned import aligned, loaded_as_the_card_says
from nasalign.commands.export import export_job
from nasalign.commands.job import Job
from nasalign.errors import NasAlignError
from nasalign.models.loading import load
from nasalign.reporting.card import Form

IDS = torch.arange(5, 45)[None]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with the adapter of a tiny model."""
    return aligned(tmp_path)


def test_both_forms_are_the_same_model(run: Path, tmp_path: Path) -> None:
    said = []
    forms: tuple[Form, ...] = ("merged", "adapter")
    for form in forms:
        target = tmp_path / form
        export_job(Job(), run, target, form)
        with torch.no_grad():
            said.append(loaded_as_the_card_says(target)(IDS).logits)
        card = ModelCard.load(target / "README.md")
        assert card.data.library_name == ("peft" if form == "adapter" else "transformers")
        assert str(tmp_path) not in card.content
        assert "The run was not finished" in card.text
    torch.testing.assert_close(*said, atol=1e-5, rtol=0)
    base, _ = load(str(tmp_path / "model"))
    with torch.no_grad():
        assert not torch.allclose(base(IDS).logits, said[0], atol=1e-3)


def test_an_adapter_folder_is_enough(run: Path, tmp_path: Path) -> None:
    export_job(Job(), run / "adapter", tmp_path / "inside", "adapter")
    assert "The run was not finished" in (tmp_path / "inside" / "README.md").read_text()
    alone = tmp_path / "alone"
    (run / "adapter").rename(alone)
    export_job(Job(), alone, tmp_path / "out", "adapter")
    assert "exported without its run" in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(NasAlignError, match="does not say where its base model 'model' is"):
        export_job(Job(), alone, tmp_path / "whole", "merged")
    export_job(Job(str(tmp_path / "model")), alone, tmp_path / "whole", "merged")
    assert (tmp_path / "whole" / "model.safetensors").exists()


@contextlib.contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """As on a full disk, the system refuses to write more."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("form", ["merged", "adapter"])
def test_a_full_disk_leaves_nothing(form: Form, run: Path, tmp_path: Path) -> None:
    there = set(tmp_path.rglob("*"))
    target = tmp_path / "new" / "parent" / "out"
    with (
        files_no_larger_than(10_000),
        pytest.raises(NasAlignError, match=f"cannot be written to {target}: [^(]*File too large"),
    ):
        export_job(Job(), run, target, form)
    assert set(tmp_path.rglob("*")) == there
    export_job(Job(), run, target, form)
    assert (target / "README.md").exists()
    assert set(target.parent.iterdir()) == {target}


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, ZeroDivisionError])
def test_an_export_that_ends_at_the_tokenizer_leaves_nothing(
    error: type[BaseException] | None, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = set(tmp_path.rglob("*"))
    write = PreTrainedTokenizerFast.save_pretrained

    def ends(self: PreTrainedTokenizerFast, folder: Path) -> None:
        assert (folder / "model.safetensors").exists()
        if error:
            raise error
        with files_no_larger_than(1000):
            write(self, folder)

    monkeypatch.setattr(PreTrainedTokenizerFast, "save_pretrained", ends)
    with pytest.raises(error or NasAlignError, match=None if error else "cannot be written to"):
        export_job(Job(), run, tmp_path / "out", "merged")
    assert set(tmp_path.rglob("*")) == there


def test_a_folder_that_is_there_or_cannot_be_made_is_named(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for target, says in ((tmp_path, "is there already"), (tmp_path / "file/out", "cannot be")):
        with pytest.raises(NasAlignError, match=says):
            export_job(Job(), run, target, "adapter")
    assert (tmp_path / "file").read_text() == "mine"
