"""A LoRA adapter in place of a model is merged into its base, or a sentence says why not."""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel, PrefixTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file

import tiny
from lora import PLAIN, adapter, logits, written
from nasalign.errors import ModelError
from nasalign.models.loading import fingerprint, load
from nasalign.models.lora_files import find_adapter

KINDS: dict[str, dict[str, Any]] = {
    "plain": PLAIN,
    "all linear layers": PLAIN | {"target_modules": "all-linear"},
    "ranks of their own": PLAIN | {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"o_proj": 3}},
    "rank-stabilised": PLAIN | {"use_rslora": True},
    "DoRA": PLAIN | {"use_dora": True},
    "an embedding of its own": PLAIN | {"modules_to_save": ["embed_tokens"]},
    "some tokens": PLAIN | {"trainable_token_indices": [7, 8]},
    "some layers": PLAIN | {"layers_to_transform": [1]},
}


@pytest.fixture
def lora(saved: Path, tmp_path: Path) -> Path:
    """The folder of a plain adapter for a tiny Llama."""
    adapter(saved, tmp_path / "lora")
    return tmp_path / "lora"


@pytest.fixture(scope="module")
def some_lora(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another one, which each example puts back as it was."""
    folder = tmp_path_factory.mktemp("some") / "lora"
    adapter(saved, folder)
    return folder


def change(folder: Path, **values: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def refused(folder: Path, sentence: str, **how: Any) -> str:
    with pytest.raises(ModelError, match=sentence) as caught:
        load(folder, device="cpu", **how)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_the_merged_model_says_what_the_adapter_says_by_peft(
    kind: str, saved: Path, tmp_path: Path
) -> None:
    expected = adapter(saved, tmp_path / "lora", **KINDS[kind])
    model, tokenizer = load(tmp_path / "lora", device="cpu")
    base, _ = load(saved, device="cpu")
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=0)
    assert (logits(base) - expected).abs().max() > 1e-2
    assert set(model.state_dict()) == set(base.state_dict())
    assert type(model) is type(base)
    assert not any(weight.requires_grad for weight in model.parameters())
    assert model.name_or_path == str(tmp_path / "lora")
    assert tokenizer.chat_template == tiny.CHAT_TEMPLATE  # of the base model
    assert fingerprint(model) == fingerprint(load(tmp_path / "lora", device="cpu")[0])
    assert fingerprint(model) != fingerprint(base)


@pytest.mark.parametrize("family", ["phi3", "gpt_neox", "gemma3"])
def test_other_layouts_are_merged_too(family: str, tmp_path: Path) -> None:
    base = tiny.save(tmp_path / "model", family)
    expected = adapter(base, tmp_path / "lora", family, target_modules="all-linear")
    model, _ = load(tmp_path / "lora", device="cpu")
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("rows", "config"),
    [
        (tiny.VOCABULARY + 8, {"modules_to_save": ["embed_tokens", "lm_head"]}),
        (tiny.VOCABULARY - 8, {"modules_to_save": ["embed_tokens", "lm_head"]}),
        (tiny.VOCABULARY + 8, {"trainable_token_indices": [601, 602]}),
        (tiny.VOCABULARY + 8, {"target_modules": ["q_proj", "embed_tokens", "lm_head"]}),
    ],
)
def test_a_vocabulary_of_its_own_comes_with_its_tokenizer(
    rows: int, config: dict[str, Any], saved: Path, tmp_path: Path
) -> None:
    base = tiny.build_model("llama")
    base.resize_token_embeddings(rows, mean_resizing=False)
    expected = written(base, saved, tmp_path / "lora", **config)
    tokenizer = tiny.build_tokenizer()
    tokenizer.add_tokens(["<verdict>"])
    tokenizer.save_pretrained(tmp_path / "lora")
    merged, own = load(tmp_path / "lora", device="cpu")
    assert merged.config.vocab_size == len(merged.get_input_embeddings().weight) == rows
    torch.testing.assert_close(logits(merged), expected, atol=1e-5, rtol=0)
    assert own.convert_tokens_to_ids("<verdict>") == tiny.VOCABULARY


def test_new_words_that_cannot_be_said_are_refused(saved: Path, tmp_path: Path) -> None:
    """PEFT leaves the rows of the output embedding out, and would draw them at random."""
    base = tiny.build_model("llama")
    base.resize_token_embeddings(tiny.VOCABULARY + 8, mean_resizing=False)
    written(base, saved, tmp_path / "lora", target_modules=["q_proj", "embed_tokens"])
    refused(tmp_path / "lora", "of its two embeddings of 608 rows, it holds only one")


def test_a_configuration_of_the_base_beside_it_does_no_harm(saved: Path, lora: Path) -> None:
    shutil.copy(saved / "config.json", lora)  # as trainers leave it
    (lora / "training_args.bin").write_bytes(b"not read")
    assert load(lora, device="cpu")[0].name_or_path == str(lora)


def test_a_base_that_cannot_be_taken_is_named_with_where_it_is_said(
    saved: Path, lora: Path, tmp_path: Path
) -> None:
    says = f"'{lora}' is a LoRA adapter for '.*', by its adapter_config.json"
    ways = "change base_model_name_or_path in that file"
    change(lora, base_model_name_or_path=str(tmp_path / "moved"))
    refused(lora, f"{says}.*There is no model '{tmp_path / 'moved'}'.*{ways}")
    change(lora, base_model_name_or_path="nobody/nothing")
    refused(lora, f"{says}.*'nobody/nothing' cannot be loaded.*{ways}")
    adapter(saved, tmp_path / "second")
    change(lora, base_model_name_or_path=str(tmp_path / "second"))
    refused(lora, f"{says}.*'{tmp_path / 'second'}' holds an adapter_config.json.*{ways}")
    few = Path(shutil.copytree(saved, tmp_path / "few"))
    config = json.loads((few / "config.json").read_text())
    bits = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (few / "config.json").write_text(json.dumps(config | {"quantization_config": bits}))
    change(lora, base_model_name_or_path=str(few))
    refused(lora, f"{says}.*The weights of '{few}' are quantised.*{ways}")
    for nothing in (None, "", " "):
        change(lora, base_model_name_or_path=nothing)
        refused(lora, "does not say for which model")


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("mistral", {"intermediate_size": 48}),
        ("qwen2", {"num_hidden_layers": 2}),
        ("gpt_neox", {}),
        ("llama", {"num_hidden_layers": 4}),
    ],
)
def test_an_adapter_for_another_model_is_refused(
    family: str, config: dict[str, int], lora: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    adapter(tmp_path / "none", lora, target_modules=["q_proj", "down_proj"])
    name, values = tiny.FAMILIES[family]
    monkeypatch.setitem(tiny.FAMILIES, family, (name, values | config))
    base = tiny.save(tmp_path / "other", family)
    change(lora, base_model_name_or_path=str(base))
    refused(lora, f"does not fit its base model '{base}' or cannot be merged: ")


BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pickle": (
        lambda folder: (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin"),
        r"only safetensors are read: a pickle \(adapter_model.bin\) can run code",
    ),
    "no tensors": (lambda folder: (folder / "adapter_model.safetensors").unlink(), "but has no"),
    "cut off": (
        lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"\x08" * 20),
        "is broken and cannot be read",
    ),
    "no JSON": (lambda folder: (folder / "adapter_config.json").write_text("{"), "is broken"),
    "a list": (lambda folder: (folder / "adapter_config.json").write_text("[]"), "is broken"),
    "another kind": (lambda folder: change(folder, peft_type="IA3"), "only LoRA is merged"),
    "a module from elsewhere": (
        lambda folder: change(folder, megatron_config={"a": 1}, megatron_core="evil"),
        "cannot be merged: it imports a module",
    ),
    "repeated layers": (
        lambda folder: change(folder, layer_replication=[[0, 2], [1, 3]]),
        "it repeats layers",
    ),
    "a rank without end": (
        lambda folder: change(folder, r=10**12),
        "says the rank 1,000,000,000,000, where",
    ),
    "no number": (lambda folder: change(folder, r="8"), "is broken, at 'r': "),
    "no rank": (lambda folder: change(folder, r=0), "is broken, at 'r': "),
    "no patterns": (lambda folder: change(folder, rank_pattern=[8]), "at 'rank_pattern"),
    "no name": (lambda folder: change(folder, base_model_name_or_path=3), "at 'base_model_name"),
    "deep": (
        lambda folder: (folder / "adapter_config.json").write_text("[" * 10**5),
        "is broken",
    ),
    "a model beside it": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"weights"),
        "beside a model, so it is not clear which of the two is meant",
    ),
}


@pytest.mark.parametrize("breaks", BREAKS)
def test_what_cannot_be_merged_is_refused_by_its_reason(breaks: str, lora: Path) -> None:
    action, sentence = BREAKS[breaks]
    action(lora)
    refused(lora, sentence)


@pytest.mark.parametrize(
    "breaks", ["one more", "one less", "of another module", "not finite", "narrow"]
)
def test_tensors_that_do_not_fit_are_refused(breaks: str, lora: Path) -> None:
    path = lora / "adapter_model.safetensors"
    tensors = load_file(path)
    name = next(one for one in tensors if "q_proj.lora_A" in one)
    if breaks == "one more":
        tensors["base_model.model.model.layers.0.mlp.up_proj.lora_A.weight"] = torch.ones(4, 64)
    elif breaks == "not finite":
        tensors[name] = tensors[name].fill_(torch.inf)
    elif breaks == "narrow":
        tensors[name] = tensors[name][:, :5].contiguous()
    else:
        tensor = tensors.pop(name)
        if breaks == "of another module":
            tensors[name.replace("q_proj", "v_proj")] = tensor
    save_file(tensors, path, metadata={"format": "pt"})
    refused(lora, "not finite" if breaks == "not finite" else "does not fit its base model")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
KEYS = ("peft_type", "base_model_name_or_path", "revision", "r", "rank_pattern", "megatron_config")


@settings(max_examples=150, deadline=None)
@given(key=st.sampled_from(KEYS), value=VALUES)
def test_whatever_a_configuration_says_it_is_read_or_refused(
    key: str, value: object, some_lora: Path
) -> None:
    path = some_lora / "adapter_config.json"
    known = path.read_text()
    change(some_lora, **{key: value})
    try:
        with suppress(ModelError):
            assert find_adapter(str(some_lora))
    finally:
        path.write_text(known)


def test_options_that_do_not_fit_a_merge_are_refused(lora: Path, saved: Path) -> None:
    refused(lora, "merged into whole weights; leave out --quantize", quantize="8bit")
    refused(lora, f"would run code of '{saved}', which you have not named", trust_remote_code=True)


def test_another_kind_that_peft_itself_writes_is_refused(saved: Path, tmp_path: Path) -> None:
    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    model: PeftModel = get_peft_model(tiny.build_model("llama"), config)
    model.save_pretrained(tmp_path / "prefix")
    refused(tmp_path / "prefix", "of the kind 'PREFIX_TUNING', and only LoRA is merged")
