"""An exported checkpoint has the small files that stand beside the base model's weights."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    PreTrainedTokenizerFast,
)

import tiny
from aligned import aligned, changed
from fault_tools import done, printed, said
from nasalign.models.companions import copy_companions
from nasalign.models.loading import load

BESIDE = {
    "preprocessor_config.json": '{"do_resize": true}',
    "processor_config.json": '{"image_seq_length": 4}',
    "video_preprocessor_config.json": "{}",
    "chat_template.json": json.dumps({"chat_template": tiny.CHAT_TEMPLATE}),
    "tokenizer.model": "sentencepiece",
    "special_tokens_map.json": '{"bos_token": "<s>"}',
    "added_tokens.json": "{}",
    "generation_config.json": '{"temperature": 0.7}',
    "vocab.txt": "words",
    "LICENSE": "You may.",
    "LICENSE.md": "You may.",
    "NOTICE.txt": "Made by us.",
    "USE_POLICY.md": "Be kind.",
}
LEFT = {
    "modeling_own.py": "code",
    "run.sh": "code",
    ".env": "hidden",
    "train.jsonl": "data or a log of training",
    "trainer_state.json": "data or a log of training",
    "eval_results.json": "data or a log of training",
}
UNSAID = {  # weights and what is written anew
    "pytorch_model.bin": "weights",
    "model.safetensors.index.json.bak.h5": "weights",
    "pytorch_model.bin.index.json": '{"weight_map": {}}',
    "optimizer.pt": "weights",
    "README.md": "---\nlicense: mit\n---\n",
}


def beside(folder: Path, *parts: dict[str, str]) -> None:
    for part in parts:
        for name, text in part.items():
            (folder / name).write_text(text)


def test_all_that_is_small_and_neither_weights_nor_code_is_copied_and_named(tmp_path: Path) -> None:
    run = aligned(tmp_path)
    beside(tmp_path / "model", BESIDE, LEFT, UNSAID)
    (tmp_path / "model" / "original").mkdir()
    printed_ = printed("export", run, tmp_path / "out")
    out = tmp_path / "out"
    for name, text in BESIDE.items():
        if name != "generation_config.json":  # transformers writes that one
            assert (out / name).read_text() == text
    assert set(printed_["copied"]) == set(BESIDE) - {"generation_config.json"}
    assert json.loads((out / "generation_config.json").read_text())["temperature"] == 0.7
    assert printed_["not_copied"] == LEFT | {"original": "a folder"}
    there = {path.name for path in out.iterdir()}
    assert not there & {*LEFT, *UNSAID, "original"} - {"README.md"}
    assert "nasalign" in (out / "README.md").read_text()
    shown = said(done("export", run, tmp_path / "again"))
    assert "Copied from beside the base model's weights: LICENSE, LICENSE.md, NOTICE.txt" in shown
    assert "Not copied from there: .env (hidden), eval_results.json (data or a log" in shown
    bare = said(done("export", run, tmp_path / "adapter", "--format", "adapter"))
    assert "opied from" not in bare


def test_links_and_large_files_stay_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nasalign.models.companions.LARGEST", 1000)
    folder, out = tmp_path / "model", tmp_path / "out"
    for path in (folder, out):
        path.mkdir()
    (tmp_path / "secret").write_text("mine")
    (folder / "LICENSE").symlink_to(tmp_path / "secret")
    (folder / "vocab.txt").symlink_to("nowhere")
    (folder / "terms").symlink_to(tmp_path)
    (folder / "merges.txt").write_text("m" * 1001)
    (folder / "NOTICE").write_text("n" * 1000)
    os.mkfifo(folder / "pipe")
    (folder / "config.json").write_text("{}")
    copied = copy_companions(str(folder), out)
    assert copied.names == ["NOTICE"]
    linked = dict.fromkeys(("LICENSE", "terms", "vocab.txt"), "a link")
    other = {"merges.txt": "more than 0 MiB", "pipe": "no regular file"}
    assert copied.left_out == linked | other
    assert [path.name for path in out.iterdir()] == ["NOTICE"]


def test_code_goes_along_where_it_was_trusted(tmp_path: Path) -> None:
    folder, out = tmp_path / "model", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    beside(folder, LEFT, {"config.json": "{}"})
    assert copy_companions(str(folder), out, code=True).names == ["modeling_own.py"]


def test_of_a_hub_model_the_cache_is_where_it_lies(snapshot: Path, tmp_path: Path) -> None:
    """There, each file is a link to a blob; a link to anywhere else is not followed."""
    blobs, out = snapshot.parents[1] / "blobs", tmp_path / "out"
    blobs.mkdir()
    out.mkdir()
    (tmp_path / "secret").write_text("mine")
    (snapshot / "NOTICE").symlink_to(tmp_path / "secret")
    for name in ("LICENSE", "preprocessor_config.json"):
        (blobs / name[:3]).write_text(name)
        (snapshot / name).symlink_to(Path("../../blobs") / name[:3])
    for name in ("owner/name", str(snapshot)):
        copied = copy_companions(name, out)
        assert copied.left_out == {"NOTICE": "a link"}
        assert {"LICENSE", "preprocessor_config.json"} <= set(copied.names)
        assert (out / "LICENSE").read_text() == "LICENSE"
        assert not (out / "LICENSE").is_symlink()
        shutil.rmtree(out)
        out.mkdir()
    shutil.rmtree(snapshot)
    copied = copy_companions("owner/name", out)
    assert "small files cannot be fetched" in copied.left_out["owner/name"]


def test_beside_a_gguf_file_only_its_terms_are_the_models(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for name in ("model.gguf", "LICENSE.txt", "letter.txt", "config.json"):
        (tmp_path / name).write_text(name)
    copied = copy_companions(str(tmp_path / "model.gguf"), tmp_path / "out")
    assert (copied.names, copied.left_out) == (["LICENSE.txt"], {})


def test_a_legacy_chat_template_does_not_stand_beside_several_new_ones(tmp_path: Path) -> None:
    base = tmp_path / "model"
    run = aligned(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = {"default": tiny.CHAT_TEMPLATE, "tools": tiny.CHAT_TEMPLATE}
    tokenizer.save_pretrained(base)
    beside(base, {"chat_template.json": BESIDE["chat_template.json"]})
    found = printed("export", run, tmp_path / "out")
    assert (tmp_path / "out" / "additional_chat_templates" / "tools.jinja").exists()
    assert "refuses it" in found["not_copied"]["chat_template.json"]


def test_a_tokenizer_with_its_old_files_says_the_same(tmp_path: Path) -> None:
    run = aligned(tmp_path)
    beside(tmp_path / "model", {name: BESIDE[name] for name in ("special_tokens_map.json",)})
    done("export", run, tmp_path / "out")
    text = "<s>Yes or No? <|im_end|>"
    ids = [AutoTokenizer.from_pretrained(tmp_path / name)(text) for name in ("model", "out")]
    assert ids[0]["input_ids"] == ids[1]["input_ids"]


def multimodal(folder: Path, layout: str) -> Path:
    """Write a tiny Gemma 3 that sees, with its processor as the hub has it or as it is saved."""
    pytest.importorskip("PIL", reason="an image processor needs pillow")
    from transformers import Gemma3ImageProcessorPil, Gemma3Processor

    plain = tiny.build_tokenizer()
    names = {"boi_token": "<boi>", "eoi_token": "<eoi>", "image_token": "<img>"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain.backend_tokenizer,
        **{f"{kind}_token": str(getattr(plain, f"{kind}_token")) for kind in ("pad", "bos", "eos")},
        extra_special_tokens=names,
    )
    tokenizer.chat_template = tiny.CHAT_TEMPLATE
    text: dict[str, Any] = tiny.WINDOWED | {"query_pre_attn_scalar": 16, "vocab_size": 640}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 2, "image_size": 8, "patch_size": 4}
    config = Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<img>"),
    )
    Gemma3ForConditionalGeneration(config).save_pretrained(folder)
    images = Gemma3ImageProcessorPil(size={"height": 8, "width": 8})
    processor = Gemma3Processor(images, tokenizer, image_seq_length=4)
    processor.save_pretrained(folder)
    if layout == "of the hub":
        values = json.loads((folder / "processor_config.json").read_text())
        kind = {"processor_class": "Gemma3Processor"}
        images_config = json.dumps(values.pop("image_processor") | kind)
        (folder / "preprocessor_config.json").write_text(images_config)
        (folder / "processor_config.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize("layout", ["as it is saved", "of the hub"])
def test_the_processor_of_a_model_that_sees_loads_from_its_export(
    layout: str, tmp_path: Path
) -> None:
    base = multimodal(tmp_path / "model", layout)
    from PIL import Image
    from transformers import AutoProcessor

    model, tokenizer = load(base)
    run = changed(model, tokenizer, str(base), tmp_path / "run", 0.1)
    done("export", run, tmp_path / "out")
    image = Image.new("RGB", (8, 8), (200, 30, 90))
    inputs = [
        AutoProcessor.from_pretrained(folder)(
            text="<boi> Is it red? Answer:", images=image, return_tensors="pt"
        )
        for folder in (base, tmp_path / "out")
    ]
    assert set(inputs[0]) == set(inputs[1]) >= {"pixel_values", "input_ids"}
    assert all(torch.equal(inputs[0][name], inputs[1][name]) for name in inputs[0])
    tuned = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert type(tuned) is Gemma3ForConditionalGeneration
    with torch.no_grad():
        expected = model(**inputs[0]).logits  # the run changed it
        torch.testing.assert_close(tuned(**inputs[1]).logits, expected, atol=1e-5, rtol=0)
