"""The whole job, as commands, on tiny models of unlike families; tests/sweep.py has all types.

Two are multimodal: their text is asked, and all else is saved again as it was.
"""

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoConfig, PreTrainedModel

import tiny
from cases import lean_the_other_way, sets
from fault_tools import printed
from nasalign.adapters.adapter import load_adapter
from nasalign.config import Settings
from nasalign.data.records import BinaryExample, Question
from nasalign.errors import ModelError
from nasalign.inference.scoring import score
from nasalign.models.classes import auto_class, loading_class
from nasalign.models.loading import load
from nasalign.nasa.knowledge import ask_and_judge
from nasalign.session import Session
from tiny_types import tiny_config

FAMILIES = ("llama", "phi3", "gpt_oss", "llava", "qwen3_5")
MULTIMODAL = ("llava", "qwen3_5")
QUICK = ("epochs=1", "n=6", "k=10", "learning_rate=1e-2", "rho=-100", "answer_tokens=4")
QUICK += ("bootstrap_samples=50", "side_effect_questions=4", "evaluation_questions=8")
IDS = torch.arange(5, 45)[None]
BESIDE = {
    "preprocessor_config.json": '{"image_processor_type": "CLIPImageProcessor"}',
    "processor_config.json": '{"image_seq_length": 4}',
}
LONG = ("phi3", "gpt_oss")  # the sweep covers what is special about their rows and scores
each = pytest.mark.parametrize(
    "family",
    [pytest.param(one, marks=[pytest.mark.long] if one in LONG else []) for one in FAMILIES],
)


@dataclass(frozen=True)
class Case:
    """A family's model and questions as files, and where the run is."""

    model: Path
    data: Path
    run: Path


def built(family: str) -> PreTrainedModel:
    if family in tiny.FAMILIES:
        return tiny.build_model(family, seed=int(family == "phi3"))
    config = tiny_config(family)
    torch.manual_seed(0)
    return auto_class(config).from_config(config, dtype=torch.float32).eval()


@cache
def questions(folder: Path, family: str) -> Case:
    """A tiny model that denies much of what it says itself, and the questions to that."""
    model, tokenizer = built(family), tiny.build_tokenizer()
    asked = [Question(f"What is word{number}?", "-", subject=f"{number}") for number in range(40)]
    settings = Settings(answer_tokens=4)

    def own() -> list[tuple[Question, str]]:
        items = ask_and_judge(Session(model, tokenizer, settings), asked)
        found = [(item.question, re.findall(r"[A-Za-z]{3,}", item.prediction)) for item in items]
        return [(question, words[0]) for question, words in found if words]

    said = own()
    examples = [BinaryExample(question.question, True, answer) for question, answer in said]
    if score(model, tokenizer, examples).verdicts.count("negative") < len(examples) / 2:
        lean_the_other_way(model, tokenizer)
        said = own()
    case = Case(folder / family / "model", folder / family / "asked.jsonl", folder / family / "run")
    model.save_pretrained(case.model)
    tokenizer.save_pretrained(case.model)
    for name, text in BESIDE.items() if family in MULTIMODAL else ():
        (case.model / name).write_text(text)
    rows = [
        {"question": one.question, "answer": word, "wrong_answer": "banana", "subject": one.subject}
        for one, word in said
    ]
    case.data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return case


@cache
def aligned(case: Case) -> dict[str, Any]:
    return printed("align", case.model, "--data", case.data, "--out", case.run, *sets(QUICK))


@cache
def exported(case: Case, form: str) -> Path:
    aligned(case)
    target = case.run / f"exported-{form}"
    printed("export", case.run, target, "--format", form, "--model", case.model)
    return target


@torch.no_grad()
def logits(model: PreTrainedModel | PeftModel) -> torch.Tensor:
    return model.eval()(input_ids=IDS, use_cache=False).logits


def by_transformers(folder: Path) -> PreTrainedModel:
    return auto_class(AutoConfig.from_pretrained(folder)).from_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


@each
def test_the_lean_to_no_is_found(family: str, folder: Path) -> None:
    case = questions(folder, family)
    found = printed("diagnose", case.model, "--data", case.data, *sets(QUICK))
    assert 0 < len(found["heads"]) <= 6
    assert found["lean"]["yes_rate"] < 0.5


@each
def test_heads_are_kept_and_only_their_rows_move(family: str, folder: Path) -> None:
    case = questions(folder, family)
    aligned(case)
    records = [json.loads(line) for line in (case.run / "tuning.jsonl").read_text().splitlines()]
    kept = [record for record in records if record["record"] == "head" and record["kept"]]
    assert kept
    model, _ = load(str(case.model))
    before = {name: value.clone() for name, value in model.named_parameters()}
    load_adapter(case.run / "adapter", model).apply(model)
    moved = {name for name, value in model.named_parameters() if not value.equal(before[name])}
    layers = {int(re.findall(r"\.(\d+)\.", name)[0]) for name in moved}
    assert layers == {record["layer"] for record in kept}
    assert all(re.search(r"\.(q_proj|k_proj|qkv_proj)\.weight$", name) for name in moved)
    assert all(".language_model." in name for name in moved) or family not in MULTIMODAL


@each
def test_both_forms_are_written_each_with_its_card(family: str, folder: Path) -> None:
    case = questions(folder, family)
    name = loading_class(json.loads((case.run / "run.json").read_text())["model"]["architecture"])
    for form in ("merged", "adapter"):
        assert f"import {name}, AutoTokenizer" in (exported(case, form) / "README.md").read_text()
    assert (exported(case, "adapter") / "adapter_config.json").is_file()
    assert (exported(case, "merged") / "model.safetensors").is_file()


@each
@torch.no_grad()
def test_transformers_and_peft_alone_make_the_aligned_model(family: str, folder: Path) -> None:
    case = questions(folder, family)
    merged, adapter = exported(case, "merged"), exported(case, "adapter")
    model, _ = load(str(case.model))
    before = logits(model)
    load_adapter(case.run / "adapter", model).apply(model)
    expected = logits(model)
    assert not torch.allclose(before, expected, atol=1e-3)
    assert torch.equal(logits(by_transformers(merged)), expected)
    said = logits(PeftModel.from_pretrained(by_transformers(case.model), adapter))
    torch.testing.assert_close(said, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", MULTIMODAL)
def test_what_is_for_images_is_saved_again_as_it_was(family: str, folder: Path) -> None:
    case = questions(folder, family)
    before, after = (
        load_file(path / "model.safetensors") for path in (case.model, exported(case, "merged"))
    )
    assert list(before) == list(after)
    other = [name for name in before if re.search("vision|visual|projector", name)]
    assert len(other) > 10
    assert all(before[name].equal(after[name]) for name in other)
    for name, text in BESIDE.items():
        assert (exported(case, "merged") / name).read_text() == text
    first, second = (
        json.loads((path / "config.json").read_text())["architectures"]
        for path in (case.model, exported(case, "merged"))
    )
    assert first == second == [type(by_transformers(case.model)).__name__]


def test_a_folder_that_is_supported_is_not_refused_by_its_configuration(tmp_path: Path) -> None:
    tiny.build_model("llama").config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(str(tmp_path))
