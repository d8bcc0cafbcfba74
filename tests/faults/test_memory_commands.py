"""Commands whose memory runs out: one sentence, exit code 2, and what was written stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from cases import DENIES, case
from fault_tools import assert_same_run, invoke, refused
from memory_limit import MESSAGE
from nasalign.errors import OutOfMemoryError
from nasalign.models import loading
from nasalign.models.loading import load
from nasalign.nasa import training


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny model and questions to it."""
    return case(tmp_path_factory.mktemp("case"), DENIES, questions=40)


def full(*_: object, **__: object) -> Any:
    raise torch.OutOfMemoryError(MESSAGE)


@pytest.mark.parametrize("where", ["moving", "reading", "checking"])
def test_a_model_that_does_not_fit_ends_in_a_sentence(
    where: str, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "moving":
        monkeypatch.setattr(PreTrainedModel, "to", full)
    elif where == "reading":
        monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", full)
    else:
        monkeypatch.setattr(loading, "_check_finite", full)
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
    [
        ["align", "MODEL", "--data", "DATA", "--out", "OUT"],
        ["diagnose", "MODEL", "--data", "DATA", "--out", "OUT"],
        ["evaluate", "MODEL", "--data", "DATA", "--out", "OUT"],
        ["compare", "MODEL", "--data", "DATA", "--out", "OUT"],
        ["ask", "MODEL", "Is it?"],
        ["chat", "MODEL"],
    ],
    ids=lambda command: command[0],
)
@pytest.mark.parametrize("where", ["moving", "running"])
def test_every_command_ends_in_a_sentence(
    command: list[str],
    where: str,
    folders: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = {"MODEL": folders[0], "DATA": folders[1], "OUT": tmp_path / "run"}
    if where == "moving":
        monkeypatch.setattr(PreTrainedModel, "to", full)
    elif command[0] == "chat":
        pytest.skip("it goes on with the next line")
    else:
        monkeypatch.setattr("transformers.models.llama.modeling_llama.LlamaMLP.forward", full)
    sentence = refused(invoke(*(names.get(part, part) for part in command)))
    assert "end other programs that use this memory" in sentence
    assert "--dtype bfloat16" in sentence


def test_chat_goes_on_with_the_next_line(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from nasalign.commands import app

    monkeypatch.setattr("transformers.models.llama.modeling_llama.LlamaMLP.forward", full)
    result = CliRunner().invoke(app, ["chat", str(folders[0])], input="Is it?\nIs it not?\n")
    assert result.exit_code == 2
    assert result.output.count("Memory ran out") == 2
    assert "Traceback" not in result.output


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
    resumed = invoke(*command, "--out", tmp_path / "run", "--resume", "--set", "replay_gib=0")
    assert resumed.exit_code == 0, resumed.output
    assert_same_run(undisturbed, tmp_path / "run")


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_an_export_that_does_not_fit_leaves_nothing(
    dtype: str | None, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if dtype:
        real = nn.Module.to

        def to(self: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
            return full() if torch.bfloat16 in args else real(self, *args, **kwargs)

        monkeypatch.setattr(nn.Module, "to", to)
        monkeypatch.setattr(PreTrainedModel, "to", to)
    else:
        monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    target = tmp_path / "target"
    how = ["--dtype", dtype] if dtype else []
    sentence = refused(invoke("export", undisturbed, target, "--format", "merged", *how))
    assert "Memory ran out while" in sentence
    assert "turning the weights into bfloat16 on cpu" in sentence or not dtype
    assert not list(tmp_path.iterdir())


def test_an_export_whose_model_does_not_fit_names_the_cpu(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PreTrainedModel, "to", full)
    sentence = refused(invoke("export", undisturbed, tmp_path / "target", "--format", "merged"))
    assert "does not fit into the memory of the device; take --device cpu." in sentence
