"""A checkpoint is what it says: a causal language model, or a multimodal one, taken as a whole."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMultimodalLM

import tiny
from nasalign.errors import ModelError
from nasalign.head_rows.low_rank import LowRankChange
from nasalign.models.classes import auto_class, empty_model, loading_class
from nasalign.models.loading import context_length, fingerprint, load
from nasalign.nas.attention_scores import picked
from nasalign.rivals.lora import all_linear
from nasalign.rivals.unibias import _directions
from tiny_types import tiny_config


@pytest.mark.parametrize(
    ("model_type", "architecture", "auto"),
    [
        ("llama", "LlamaForCausalLM", AutoModelForCausalLM),
        ("llama", None, AutoModelForCausalLM),
        ("llava", "LlavaForConditionalGeneration", AutoModelForMultimodalLM),
        ("qwen3_5", "Qwen3_5ForConditionalGeneration", AutoModelForMultimodalLM),
        ("qwen3_5", "Qwen3_5ForCausalLM", AutoModelForCausalLM),
        ("qwen3_5", None, AutoModelForMultimodalLM),  # the class that takes all of it
        ("qwen3_5_text", None, AutoModelForCausalLM),
        ("mllama", "MllamaForConditionalGeneration", AutoModelForMultimodalLM),
        ("gemma3", "Gemma3ForConditionalGeneration", AutoModelForCausalLM),  # has both
        ("vit", "ViTForImageClassification", None),
    ],
)
def test_the_class_is_that_which_the_checkpoint_names(
    model_type: str, architecture: str | None, auto: type | None
) -> None:
    config = AutoConfig.for_model(model_type)
    config.architectures = [architecture] if architecture else None
    assert auto_class(config) is auto


@pytest.mark.parametrize(
    ("architecture", "auto"),
    [
        ("LlamaForCausalLM", "AutoModelForCausalLM"),
        ("Gemma3ForConditionalGeneration", "AutoModelForCausalLM"),
        ("LlavaForConditionalGeneration", "AutoModelForMultimodalLM"),
        ("Qwen3_5ForConditionalGeneration", "AutoModelForMultimodalLM"),
    ],
)
def test_a_card_names_the_class_that_loads_all_of_it(architecture: str, auto: str) -> None:
    assert loading_class(architecture) == auto


@pytest.mark.parametrize(
    ("model_type", "architecture", "why"),
    [
        ("llama", "LlamaForSequenceClassification", "does not predict the next token"),
        ("llama", "LlamaModel", "does not predict the next token"),
        ("bert", "BertForMaskedLM", "does not predict the next token"),
        ("florence2", "Florence2ForConditionalGeneration", "an encoder with a decoder"),
        ("blip-2", "Blip2ForConditionalGeneration", "by text alone: .*'pixel_values'"),
        ("idefics", "IdeficsForVisionText2Text", "by text alone: .*pixel_values"),
        ("vit", "ViTForImageClassification", "no causal language model"),
    ],
)
def test_what_writes_no_text_of_text_is_refused_by_its_configuration(
    model_type: str, architecture: str, why: str
) -> None:
    config = AutoConfig.for_model(model_type)
    config.architectures = [architecture]
    with pytest.raises(ModelError, match=rf"{architecture} is not supported: .*{why}"):
        empty_model(config)


@pytest.mark.parametrize("architecture", [None, "LlamaConfig", "NoneSuch", "pipeline", "__doc__"])
def test_a_name_that_is_no_model_of_transformers_does_not_matter(architecture: str | None) -> None:
    config = tiny_config("llama")
    config.architectures = [architecture] if architecture else None
    assert type(empty_model(config)).__name__ == "LlamaForCausalLM"


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def needs(*_: object) -> None:
        raise ImportError("\nThisModel requires the abcd library but it was not found.\nInstall it")

    monkeypatch.setattr(AutoModelForCausalLM, "from_config", needs)
    with pytest.raises(ModelError, match=r"supported: ThisModel requires the abcd library, which"):
        empty_model(AutoConfig.for_model("llama"))


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava")
    config = tiny_config("llava")
    AutoModelForMultimodalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    tiny.build_tokenizer(chat_template=False).save_pretrained(folder)
    return folder


def test_the_template_of_a_processor_is_the_tokenizers(llava: Path) -> None:
    assert load(llava, device="cpu")[1].chat_template is None
    file = llava / "chat_template.json"
    file.write_text(json.dumps({"chat_template": tiny.CHAT_TEMPLATE}))
    try:
        assert load(llava, device="cpu")[1].chat_template == tiny.CHAT_TEMPLATE
        file.write_text("{}")
        with pytest.raises(ModelError, match=r"cannot be loaded: .*chat_template"):
            load(llava, device="cpu")
    finally:
        file.unlink()


def test_the_fingerprint_and_the_context_are_those_of_the_parts(llava: Path) -> None:
    model, _ = load(llava, device="cpu")
    assert context_length(model) == 512
    before = fingerprint(model)
    model.config.text_config.dtype = torch.bfloat16  # as another checkpoint may have said
    model.config.text_config.architectures = ["LlamaForCausalLM"]
    assert fingerprint(model) == before
    with torch.no_grad():
        model.model.vision_tower.encoder.layers[0].self_attn.k_proj.weight[0, 0] += 1
    assert fingerprint(model) != before


@torch.no_grad()
def test_rivals_read_and_train_the_text_model_alone(llava: Path) -> None:
    model, _ = load(llava, device="cpu")
    norm = model.model.language_model.norm.weight
    norm.copy_(torch.linspace(0.5, 2.0, len(norm)))
    rows = model.get_output_embeddings().weight[[7, 9]]
    torch.testing.assert_close(_directions(model, (7, 9)), rows * norm)
    change = LowRankChange(model, all_linear(model), seed=0)
    assert len(list(change.parameters())) == 2 * 7 * 2  # of seven modules in each of two layers
    assert all(name.startswith("model.language_model.layers.") for name in change.outputs)


def test_the_picked_keys_of_sparse_attention_stay_open_where_the_mask_is() -> None:
    """Three rows of three keys; each row picks two, the first one more than it may see."""
    low = torch.finfo(torch.float32).min
    causal = torch.tensor([[0.0, low, low], [0, 0, low], [0, 0, 0]])[None, None]
    keys = torch.tensor([[[0, 2], [1, 0], [2, 1]]])
    expected = torch.tensor([[0.0, low, low], [0, 0, low], [low, 0, 0]])[None, None]
    assert torch.equal(picked(causal, keys), expected)
    assert torch.equal(picked(causal == 0, keys), expected == 0)
    assert picked(causal, None) is causal
    assert picked(None, keys) is None
