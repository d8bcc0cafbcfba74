"""A file that is cut off, changed or foreign is told of, and made again or refused: never used."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import tiny
from fault_tools import assert_same_run, done, invoke, refused, said
from nasalign.data.conversation import Conversation
from nasalign.data.endpoint import EndpointChat
from nasalign.errors import EndpointError


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def garbage(path: Path) -> None:
    path.write_bytes(b"\x00\xffnot at all what it was" * 40)


def changed(path: Path) -> None:
    """One digit or bit, in the middle: the file is still valid."""
    content = bytearray(path.read_bytes())
    places = [place for place, byte in enumerate(content) if chr(byte).isdigit()]
    place = places[len(places) // 2] if path.suffix != ".safetensors" else len(content) - 2
    content[place] ^= 1
    path.write_bytes(content)


REDONE: list[tuple[str, Callable[[Path], None]]] = [
    ("parametric.jsonl", cut),
    ("probing.jsonl", changed),
    ("nas.safetensors", changed),
    ("eval/questions.before.jsonl", cut),
    ("eval/questions.after.jsonl", changed),
    ("side_effects.json", garbage),
    ("checkpoint/kept.safetensors", changed),
    ("checkpoint/kept.safetensors", cut),
]


@pytest.mark.parametrize(("name", "breaks"), REDONE, ids=lambda part: getattr(part, "__name__", ""))
def test_what_is_broken_is_made_again(
    name: str, breaks: Callable[[Path], None], command: list[str], undisturbed: Path, halfway: Path
) -> None:
    breaks(halfway / name)
    result = done(*command, "--out", halfway, "--resume")
    told = said(result).replace(" ", "")
    assert str(halfway / name) in told
    assert "madeagain" in told or "doneagain" in told
    assert_same_run(undisturbed, halfway)


def test_what_tells_of_the_rest_may_be_broken_too(
    command: list[str], undisturbed: Path, halfway: Path
) -> None:
    for path in (halfway / "tuning.jsonl", halfway / "SHA256SUMS", halfway / "adapter" / "x"):
        path.parent.mkdir(exist_ok=True)
        garbage(path)
    cut(halfway / "eval" / "SHA256SUMS")
    done(*command, "--out", halfway, "--resume")
    assert_same_run(undisturbed, halfway)


@pytest.mark.parametrize("text", [b'{"model": {"fing', b"\xff\xfe", b"[1]", b"{}", b'{"model": 3}'])
def test_a_run_that_does_not_say_which_it_is_is_refused(
    command: list[str], halfway: Path, text: bytes
) -> None:
    (halfway / "run.json").write_bytes(text)
    told = refused(invoke(*command, "--out", halfway, "--resume"))
    assert "or remove the folder and begin again" in told
    told = refused(invoke(*command, "--out", halfway, "--overwrite"))
    assert "does not say that nasalign wrote it" in told
    assert (halfway / "run.json").read_bytes() == text


def test_figures_that_are_not_those_written_are_made_again(
    command: list[str], undisturbed: Path, finished: Path
) -> None:
    folder = finished
    changed(folder / "metrics.json")
    result = done(*command, "--out", folder, "--resume")
    assert "metrics.json is not what the run wrote" in said(result)
    assert_same_run(undisturbed, folder)
    (folder / "report.html").unlink()
    assert "nothing is left to do. Its report was missing and is written now" in refused(
        invoke(*command, "--out", folder, "--resume")
    )
    assert (folder / "report.html").exists()


BROKEN_ADAPTERS = [
    ("adapter_model.safetensors", cut, "cannot be read"),
    ("adapter_model.safetensors", garbage, "cannot be read"),
    ("adapter_model.safetensors", changed, "is not what nasalign wrote"),
    ("adapter_model.safetensors", Path.unlink, "There is no whole adapter"),
    ("adapter_config.json", cut, "adapter_config.json is broken"),
    ("adapter_config.json", garbage, "adapter_config.json is broken"),
    ("adapter_config.json", Path.unlink, "There is no whole adapter"),
    ("adapter_config.json", lambda path: path.write_text("{}"), "adapter_config.json is broken"),
]


@pytest.mark.parametrize(("name", "breaks", "sentence"), BROKEN_ADAPTERS)
def test_a_broken_adapter_is_refused(
    name: str,
    breaks: Callable[[Path], None],
    sentence: str,
    command: list[str],
    finished: Path,
    tmp_path: Path,
) -> None:
    breaks(finished / "adapter" / name)
    asked = invoke("ask", command[1], "Is it so?", "--adapter", finished)
    assert sentence in refused(asked)
    exported = invoke("export", finished, tmp_path / "out", "--format", "adapter")
    assert sentence in refused(exported)
    assert not (tmp_path / "out").exists()


def test_the_adapter_of_another_model_is_refused(finished: Path, tmp_path: Path) -> None:
    other = tiny.save(tmp_path / "other", seed=9)
    asked = invoke("ask", other, "Is it so?", "--adapter", finished)
    assert "which is another model or another dtype than" in refused(asked)


def with_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    """What writes a file again with other tensors."""

    def breaks(path: Path) -> None:
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path, {"format": "pt"})

    return breaks


EMBEDDING, UP, NORM = "model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight", "model.norm"
BROKEN_MODELS = [
    (cut, "cannot be loaded"),
    (garbage, "cannot be loaded"),
    (lambda path: save_file({"a": torch.ones(300_000)}, path), "its files lack"),
    (with_tensors(lambda found: found.update({EMBEDDING: torch.ones(3, 64)})), "cannot be loaded"),
    (
        with_tensors(lambda found: found[UP][3, 4].fill_(torch.nan)),
        f"not finite (NaN or infinite), in {UP}",
    ),
    (
        with_tensors(lambda found: found[f"{NORM}.weight"][0].fill_(-torch.inf)),
        f"not finite (NaN or infinite), in {NORM}.weight",
    ),
]


@pytest.mark.parametrize(("breaks", "sentence"), BROKEN_MODELS)
def test_a_broken_model_is_refused_before_any_work(
    breaks: Callable[[Path], None], sentence: str, command: list[str], tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(command[1], model)
    breaks(model / "model.safetensors")
    out = tmp_path / "run"
    told = refused(invoke("align", model, "--data", command[3], "--out", out))
    assert sentence in told
    assert not out.exists()


def cache(path: Path, answers: int = 200) -> None:
    chat = EndpointChat("m", path)
    for number in range(answers):
        chat._cache.put(f"{number}", "m", Conversation("s", "u" * 100), "yes" * 20)
    chat._cache._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    chat._cache._connection.close()


def torn(path: Path) -> None:
    """A page of it is another."""
    content = bytearray(path.read_bytes())
    content[8192:12288] = b"\x07" * 4096
    path.write_bytes(content)


@pytest.mark.parametrize("breaks", [cut, garbage, torn])
def test_a_broken_cache_of_answers_is_refused(
    breaks: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    path = tmp_path / "answers.sqlite"
    cache(path)
    breaks(path)
    with pytest.raises(EndpointError, match="Remove it if it is damaged") as caught:
        EndpointChat("m", path)
    assert isinstance(caught.value.__cause__, sqlite3.Error)


def test_the_checkpoint_of_an_export_is_whole_or_not_there(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    for where, breaks, code in ((PreTrainedTokenizerBase, stop, 130), (PreTrainedModel, full, 2)):
        with monkeypatch.context() as patch:
            patch.setattr(where, "save_pretrained", breaks)
            told = refused(invoke("export", finished, tmp_path / "merged"), code)
        assert "No space left on device" in told or code == 130
        assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
