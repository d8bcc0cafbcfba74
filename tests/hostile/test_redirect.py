"""What is loaded is the model that was named, and none that an adapter's configuration names."""

import json
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import transformers
from huggingface_hub import constants
from transformers.utils import hub as transformers_hub

import fake_hub
from fault_tools import invoke, refused
from nasalign.models import checkpoints
from nasalign.models.loading import load


@pytest.fixture
def hub(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fake_hub.FakeHub]:
    """A hub on loopback with a model, ``ann/model``, and an empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    for module in (constants, transformers_hub):
        if hasattr(module, "HF_HUB_CACHE"):
            monkeypatch.setattr(module, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    huggingface_hub.close_session()
    with fake_hub.serving() as served:
        served.private["ann/model"] = False
        served.files["ann/model"] = {path.name: path.read_bytes() for path in saved.iterdir()}
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            served.url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        yield served
    huggingface_hub.close_session()


def adapter_config(base: str) -> bytes:
    return json.dumps({"peft_type": "LORA", "r": 1, "base_model_name_or_path": base}).encode()


@pytest.mark.long  # the hub client waits between its attempts
def test_a_model_of_the_hub_is_loaded(hub: fake_hub.FakeHub) -> None:
    model, _ = load("ann/model", device="cpu")
    assert model.name_or_path == "ann/model"


def test_an_adapter_on_the_hub_is_refused_before_weights_are_fetched(
    hub: fake_hub.FakeHub, folder: Path
) -> None:
    hub.files["ann/model"]["adapter_config.json"] = adapter_config(str(folder))
    said = refused(invoke("ask", "ann/model", "Is it?", "--device", "cpu"))
    assert "'ann/model' holds an adapter_config.json beside a model" in said
    assert "not clear which of the two is meant" in said
    assert not [one for one in hub.asked if "safetensors" in one]


def test_a_gguf_file_beside_an_adapter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    (tmp_path / "adapter_config.json").write_bytes(adapter_config("ann/other"))
    said = refused(invoke("ask", tmp_path / "model.gguf", "Is it?", "--device", "cpu"))
    assert "holds an adapter_config.json" in said


@pytest.mark.long
def test_an_adapter_that_comes_between_is_refused(
    hub: fake_hub.FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was loaded is looked at too."""
    real = transformers.AutoModelForCausalLM.from_pretrained

    def redirected(*names: object, **options: object) -> object:
        model, report = real(*names, **options)
        model._hf_peft_config_loaded = True
        return model, report

    monkeypatch.setattr(checkpoints.AutoModelForCausalLM, "from_pretrained", redirected)
    said = refused(invoke("ask", "ann/model", "Is it?", "--device", "cpu"))
    assert "so it is an adapter and no model" in said


@pytest.mark.parametrize("status", [401, 403], ids=["not logged in", "terms not accepted"])
def test_a_gated_model_says_how_to_be_let_in(hub: fake_hub.FakeHub, status: int) -> None:
    hub.gated["ann/model"] = status
    said = refused(invoke("ask", "ann/model", "Is it?", "--device", "cpu"))
    assert (
        f"'ann/model' cannot be loaded: it is gated; accept its terms at {hub.url}/ann/model, and "
        "log in with `hf auth login` or set HF_TOKEN."
    ) in said
