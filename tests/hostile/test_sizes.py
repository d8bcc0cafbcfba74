"""A model whose configuration promises more than its files hold is refused before that is made."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

import tiny
from fuzz import limited
from nasalign.errors import ModelError
from nasalign.models import safety
from nasalign.models.loading import load

PROMISES: list[tuple[str, dict[str, Any], str]] = [
    ("llama", {"num_hidden_layers": 10_000_000}, "num_hidden_layers = 10000000"),
    ("qwen2", {"num_hidden_layers": 10**14}, "num_hidden_layers"),  # makes a list of that length
    ("llama", {"num_hidden_layers": 10**400}, "num_hidden_layers"),
    ("llama", {"text_config": {"num_hidden_layers": 10**9}}, "num_hidden_layers"),
    ("llama", {"num_hidden_layers": 900}, "parameters, which the"),
    ("llama", {"num_labels": 10**9}, "num_labels"),
    ("llama", {"vocab_size": 60_000_000}, "vocab_size"),
    ("llama", {"vocab_size": 6_000_000}, "parameters, which the"),
    ("llama", {"hidden_size": 4_000_000, "head_dim": 16}, "parameters, which the"),
    ("llama", {"intermediate_size": 10**9}, "intermediate_size"),
    ("llama", {"head_dim": 10**9}, "head_dim"),
    ("llama", {"num_attention_heads": 10**8, "num_key_value_heads": 1}, "num_attention_heads"),
    ("mixtral", {"num_local_experts": 10**9}, "num_local_experts"),
    ("gpt_oss", {"num_local_experts": 10**6}, "parameters, which the"),
    ("llama", {"quantization_config": {}, "vocab_size": 10**6}, "parameters, which the"),
]


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("sizes")
    return {family: tiny.save(root / family, family) for family, _, _ in PROMISES}


def refused(name: str | Path) -> str:
    start = time.process_time()
    with limited(30), pytest.raises(ModelError) as caught:
        load(str(name), device="cpu")
    assert time.process_time() - start < 10
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    return str(caught.value)


def change(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(("family", "promise", "sentence"), PROMISES)
def test_a_configuration_that_promises_too_much(
    families: dict[str, Path], tmp_path: Path, family: str, promise: dict[str, Any], sentence: str
) -> None:
    folder = Path(shutil.copytree(families[family], tmp_path / "model"))
    change(folder, **promise)
    assert sentence in refused(folder)
    (folder / "model.safetensors").rename(folder / "elsewhere")  # and its weights are not opened
    (folder / "model.safetensors").write_bytes(bytes((folder / "elsewhere").stat().st_size))
    assert sentence in refused(folder)


def test_a_configuration_of_the_hub_too(snapshot: Path) -> None:
    change(snapshot, num_hidden_layers=10**7)
    assert "num_hidden_layers" in refused("owner/name")


def test_a_configuration_nested_beyond_all_depth(folder: Path) -> None:
    for depth in (900, 100_000):
        (folder / "config.json").write_text('{"a":' * depth + "1" + "}" * depth)
        refused(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors.index.json"])
def test_a_file_that_would_be_read_whole_is_no_gigabyte(folder: Path, name: str) -> None:
    with (folder / name).open("ab") as file:
        file.truncate(5 * 2**30)  # takes no room on the disk
    said = refused(folder)
    assert name in said
    assert "5,120 MiB" in said


def test_a_tokenizer_that_contradicts_itself(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["merges"] = [["no such", "tokens"]]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    assert "cannot be loaded" in refused(folder)


def test_other_files_beside_the_model_may_be_large(folder: Path) -> None:
    with (folder / "train.json").open("ab") as file:
        file.truncate(5 * 2**30)
    load(str(folder), device="cpu")


def test_what_models_have_is_within_the_limits() -> None:
    largest = {"num_hidden_layers": 128, "vocab_size": 1_000_000, "num_experts": 512}
    safety.check_counts({"text_config": largest | {"n_ctx": 10**7}, "rope_theta": 10**11}, "large")
    with pytest.raises(ModelError, match="n_layer = 1001"):
        safety.check_counts({"text_config": [{"n_layer": 1001}]}, "x")


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gemma3"])
def test_a_configuration_with_fewer_layers_than_the_weights(tmp_path: Path, family: str) -> None:
    tiny.save(tmp_path, family)
    config = json.loads((tmp_path / "config.json").read_text())
    layers = config["num_hidden_layers"]
    kinds = {"layer_types": config["layer_types"][:-1]} if "layer_types" in config else {}
    change(tmp_path, num_hidden_layers=layers - 1, **kinds)
    said = refused(tmp_path)
    assert f"configuration says {layers - 1} layers, and its files have layer {layers};" in said
