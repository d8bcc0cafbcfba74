"""A model loads from a folder or the hub's cache, frozen; what cannot be loaded is named."""

import json
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import tiny
from nasalign.errors import ModelError
from nasalign.models.loading import choose_device, choose_dtype, context_length, fingerprint, load

Pair = tuple[PreTrainedModel, PreTrainedTokenizerFast]
IDS = torch.arange(5, 17)[None]


def change_config(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def refused(name: str | Path, sentence: str, **how: str) -> str:
    with pytest.raises(ModelError, match=sentence) as caught:
        load(str(name), device="cpu", **how)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_loads_in_float32_frozen_and_in_evaluation_mode(saved: Path, llama: Pair) -> None:
    model, tokenizer = load(str(saved), device="cpu")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(module.training for module in model.modules())
    assert model.device == torch.device("cpu")
    assert torch.equal(model(IDS).logits, llama[0](IDS).logits)
    text = "Yes or No? <|im_end|>"
    assert tokenizer(text)["input_ids"] == llama[1](text)["input_ids"]
    assert tokenizer.chat_template == tiny.CHAT_TEMPLATE
    assert context_length(model) == 512


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_folder_loads_in_half_precision(saved: Path, dtype: str) -> None:
    model, _ = load(str(saved), device="cpu", dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}


def test_a_tokenizer_without_padding_pads_with_its_end(folder: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    _, tokenizer = load(str(folder), device="cpu")
    assert tokenizer.pad_token == tokenizer.eos_token == "<|im_end|>"


def test_a_folder_without_a_model_is_named(folder: Path, tmp_path: Path) -> None:
    refused(tmp_path, rf"{tmp_path} holds no config\.json")
    (folder / "model.safetensors").unlink()
    refused(folder, rf"{folder} holds no weights \(\*\.safetensors\)")
    torch.save(tiny.build_model("llama").state_dict(), folder / "pytorch_model.bin")
    refused(folder, r"holds its weights as pytorch_model\.bin\. Only safetensors are read")


def test_a_folder_without_a_tokenizer_is_named(folder: Path) -> None:
    for path in folder.glob("token*"):
        path.unlink()
    refused(folder, rf"'{folder}' cannot be loaded: .*tokenizer")


def test_a_broken_configuration_is_named(folder: Path) -> None:
    for size in (32, "wide"):
        change_config(folder, hidden_size=size)
        refused(folder, rf"'{folder}' cannot be loaded")
    change_config(folder, model_type="nonesuch")
    refused(folder, rf"'{folder}' cannot be loaded: .*`nonesuch`")
    (folder / "config.json").write_text("{")
    refused(folder, rf"'{folder}' cannot be loaded: .*config\.json.* not a valid JSON")


def test_missing_weights_are_refused(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.self_attn.q_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refused(folder, r"model\.layers\.1\.self_attn\.q_proj\.weight")


@pytest.mark.parametrize(
    "name", ["nonesuch", "gpt2", "./nonesuch", "~/none", "~nobody/x", "a/b/c", "/none"]
)
def test_a_name_that_is_nothing_lists_what_it_could_be(name: str) -> None:
    sentence = rf"no model '{name}': .*folder.*\.gguf.*owner/name.*alias \(smollm2-135m\)"
    refused(name, sentence)


def test_a_gguf_file_that_is_absent_or_broken_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "absent.gguf", r"There is no GGUF file .*absent\.gguf")
    (tmp_path / "broken.gguf").write_bytes(b"not a GGUF file at all" * 10)
    refused(tmp_path / "broken.gguf", r"broken\.gguf' cannot be loaded: .*GGUF")


def test_a_hub_model_needs_the_network_or_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    refused("owner/name", r"^The model 'owner/name' cannot be loaded: .*connect.*cached files\.$")


def test_a_hub_model_loads_from_the_cache_offline(saved: Path, snapshot: Path) -> None:
    model, tokenizer = load("owner/name", device="cpu")
    assert fingerprint(model) == fingerprint(load(str(saved), device="cpu")[0])
    assert tokenizer.chat_template == tiny.CHAT_TEMPLATE
    again, _ = load("owner/name", device="cpu", revision=snapshot.name)
    assert fingerprint(again) == fingerprint(model)
    refused("owner/name", r"'owner/name' cannot be loaded", revision="nonesuch")


def test_a_pickle_from_the_hub_is_not_read(snapshot: Path) -> None:
    (snapshot / "model.safetensors").unlink()
    torch.save(tiny.build_model("llama").state_dict(), snapshot / "pytorch_model.bin")
    refused("owner/name", r"'owner/name' cannot be loaded: .*model\.safetensors")


def test_the_fingerprint_is_that_of_the_weights_and_not_of_the_path(
    saved: Path, folder: Path
) -> None:
    first, second = (load(str(path), device="cpu")[0] for path in (saved, folder))
    assert fingerprint(first) == fingerprint(second)
    with torch.no_grad():
        second.model.layers[2].self_attn.k_proj.weight[0, 0] += 1e-3
    assert fingerprint(first) != fingerprint(second)
    assert fingerprint(first) != fingerprint(tiny.build_model("mistral"))


def test_an_unknown_device_or_dtype_is_named(saved: Path) -> None:
    for device in ("nonesuch", "cuda:99", ""):
        with pytest.raises(ModelError, match=rf"device '{device}' cannot be used here; try cpu"):
            load(str(saved), device=device)
    refused(saved, r"no dtype 'int8'; choose one of float32, bfloat16, float16", dtype="int8")


def test_the_type_follows_the_device() -> None:
    assert choose_dtype(None, torch.device("cpu")) == torch.float32
    assert choose_dtype(None, torch.device("cuda")) == torch.bfloat16
    assert choose_dtype("float32", torch.device("cuda")) == torch.float32
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("cuda", "mps", "device"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_the_best_device_is_chosen(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device().type == device


def test_a_model_spread_over_the_devices_is_the_same(saved: Path) -> None:
    """Here there is one device; more of them cannot be had."""
    spread, _ = load(str(saved), device="auto")
    plain, _ = load(str(saved), device=str(spread.device))
    ids = torch.arange(5, 25, device=spread.device)[None]
    with torch.no_grad():
        assert torch.equal(spread(ids).logits, plain(ids).logits)
    assert fingerprint(spread) == fingerprint(plain)
