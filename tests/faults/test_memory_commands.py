"""Commands whose memory runs out: one sentence, exit code 2, and what was written stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel
from typer.testing import CliRunner

from cases import DENIES, case
from fault_tools import assert_same_run, done, invoke, refused
from memory_limit import MESSAGE
from nasalign.commands import app
from nasalign.errors import OutOfMemoryError
from nasalign.models import checkpoints, loading
from nasalign.models.loading import load
from nasalign.nasa import training


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny model and questions to it."""
    return case(tmp_path_factory.mktemp("case"), DENIES, questions=40)


def full(*_: object, **__: object) -> Any:
    raise torch.OutOfMemoryError(MESSAGE)


OTHERS = ("diagnose", "evaluate", "compare")
NOT_FITTING = {
    "moving": (PreTrainedModel, "to"),
    "reading": (checkpoints.AutoModelForCausalLM, "from_pretrained"),
    "checking": (loading, "_check_finite"),
}
RUNNING = "transformers.models.llama.modeling_llama.LlamaMLP.forward"


@pytest.mark.parametrize("where", NOT_FITTING)
def test_a_model_that_does_not_fit_ends_in_a_sentence(
    where: str, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(*NOT_FITTING[where], full)
    with pytest.raises(OutOfMemoryError) as caught:
        load(str(folders[0]), device="cpu")
    sentence = str(caught.value)
    assert "does not fit into the memory of cpu" in sentence
    assert "float32; end other programs" in sentence
    assert "--dtype bfloat16 or a smaller model." in sentence
    assert "\n" not in sentence
    assert ("its weights take 0.0 GiB" in sentence) == (where != "reading")


@pytest.mark.parametrize(
    "command",
    ["align", "ask", *(pytest.param(one, marks=pytest.mark.long) for one in OTHERS)],
)
@pytest.mark.parametrize("where", ["moving", "running"])
def test_every_command_ends_in_a_sentence(
    command: str,
    where: str,
    folders: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, data = folders
    rest = ["Is it?"] if command == "ask" else ["--data", data, "--out", tmp_path / "run"]
    monkeypatch.setattr(*((PreTrainedModel, "to") if where == "moving" else (RUNNING,)), full)
    sentence = refused(invoke(command, model, *rest))
    assert "end other programs that use this memory" in sentence
    assert "--dtype bfloat16" in sentence


def test_chat_goes_on_with_the_next_line(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RUNNING, full)
    result = CliRunner().invoke(app, ["chat", str(folders[0])], input="Is it?\nIs it not?\n")
    assert result.exit_code == 2
    assert result.output.count("Memory ran out") == 2
    assert "Traceback" not in result.output
    monkeypatch.setattr(PreTrainedModel, "to", full)  # the model itself
    assert "end other programs that use this memory" in refused(invoke("chat", folders[0]))


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError(MESSAGE)])
def test_what_nobody_foresaw_ends_in_a_sentence_too(
    error: Exception, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("nasalign.run.fingerprint", broken)
    sentence = refused(invoke("evaluate", folders[0], "--data", folders[1]))
    assert sentence.startswith("Memory ran out while working; end other programs")


def test_tuning_that_does_not_fit_can_be_gone_on_with(
    command: list[str], undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count = training.RowTuner._loss, 0

    def loss(self: training.RowTuner, places: list[int]) -> torch.Tensor:
        nonlocal count
        count += 1
        return full() if count > 8 else real(self, places)

    with monkeypatch.context() as patch:
        patch.setattr(training.RowTuner, "_loss", loss)
        sentence = refused(invoke(*command, "--out", tmp_path / "run"))
    assert "Memory ran out on cpu while tuning: a batch of one, " in sentence
    assert "--set replay_gib=0" in sentence
    assert (tmp_path / "run" / "checkpoint" / "kept.safetensors").exists()
    assert not (tmp_path / "run" / ".lock").exists()
    # An option that the sentence names.
    done(*command, "--out", tmp_path / "run", "--resume", "--set", "replay_gib=0")
    assert_same_run(undisturbed, tmp_path / "run")


def full_in_half(self: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    return full() if torch.bfloat16 in args else TO(self, *args, **kwargs)


TO = nn.Module.to
EXPORTS: list[tuple[str, Any, list[str], str]] = [
    ("save_pretrained", full, [], "Memory ran out while"),
    ("to", full_in_half, ["--dtype", "bfloat16"], "turning the weights into bfloat16 on cpu"),
    ("to", full, [], "does not fit into the memory of the device; take --device cpu."),
]


@pytest.mark.parametrize(("where", "fails", "how", "said"), EXPORTS)
def test_an_export_that_does_not_fit_leaves_nothing(
    where: str,
    fails: Any,
    how: list[str],
    said: str,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(PreTrainedModel, where, fails)
    if fails is full_in_half:
        monkeypatch.setattr(nn.Module, where, fails)
    target = tmp_path / "target"
    assert said in refused(invoke("export", undisturbed, target, "--format", "merged", *how))
    assert not list(tmp_path.iterdir())
