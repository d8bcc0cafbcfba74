"""Each cell of docs/families.md: a tiny model of the family goes through the whole job.

A column is a test, a row a family of `tests/tiny.py`; the document is compared with both.
"""

import dataclasses
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BertConfig,
    BloomConfig,
    DeepseekV3Config,
    DiffLlamaConfig,
    FalconConfig,
    GPT2Config,
    JambaConfig,
    Mamba2Config,
    MambaConfig,
    MptConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen3NextConfig,
    T5Config,
    ViTConfig,
)

import reference
import tiny
from cases import lean_the_other_way, sets
from fault_tools import printed
from nasalign.adapters.adapter import load_adapter
from nasalign.config import Settings
from nasalign.data.records import BinaryExample, Question
from nasalign.errors import ModelError
from nasalign.inference.scoring import score
from nasalign.models.loading import load
from nasalign.nasa.knowledge import ask_and_judge
from nasalign.prompts.builder import PromptBuilder
from nasalign.session import Session

DOCUMENT = Path(__file__).parents[1] / "docs" / "families.md"
QUICK = ("epochs=1", "n=6", "k=10", "learning_rate=1e-2", "rho=-100", "answer_tokens=4")
QUICK += ("bootstrap_samples=50", "side_effect_questions=4", "evaluation_questions=8")
IDS = torch.arange(5, 45)[None]


@dataclasses.dataclass(frozen=True)
class Row:
    """What the document says of a family."""

    models: str
    special: str
    seed: int = 0  # of a tiny model that says words, and denies them


ROWS = {
    "llama": Row("Llama 2, 3; SmolLM, SmolLM 2", "grouped queries"),
    "mistral": Row("Mistral", "sliding window"),
    "mixtral": Row("Mixtral", "mixture of experts"),
    "gemma": Row("Gemma 1", "heads wider than their share"),
    "gemma2": Row("Gemma 2", "soft-capped scores; windows in every other layer"),
    "gemma3": Row("Gemma 3", "q and k norm; windows in five layers of six"),
    "qwen2": Row("Qwen 2, 2.5", "biases of q and k"),
    "qwen3": Row("Qwen 3", "q and k norm"),
    "qwen3_moe": Row("Qwen 3 MoE", "q and k norm; mixture of experts"),
    "phi3": Row("Phi-3, Phi-4", "q, k and v in one projection", 1),
    "gpt_neox": Row("GPT-NeoX, Pythia", "q, k and v of each head in turn", 1),
    "olmo2": Row("OLMo 2", "q and k norm over all heads of a layer"),
    "smollm3": Row("SmolLM 3", "no positions in every fourth layer", 1),
    "granite": Row("Granite 3", "its own scale of the scores"),
    "cohere": Row("Command R", "q and k norm with a weight for each head"),
    "cohere2": Row("Command R7B, Command A", "windows; no positions in every fourth layer"),
    "gpt_oss": Row("gpt-oss", "attention sinks; windows; mixture of experts"),
}
SMALL: dict[str, Any] = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2}
REFUSED: dict[str, tuple[str, PretrainedConfig]] = {  # by the architecture that a checkpoint names
    "T5ForConditionalGeneration": ("T5, Flan-T5", T5Config()),
    "BartForConditionalGeneration": ("BART", BartConfig()),
    "BertForMaskedLM": ("BERT", BertConfig(**SMALL, num_attention_heads=4)),
    "ViTForImageClassification": ("ViT", ViTConfig()),
    "GPT2LMHeadModel": ("GPT-2", GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4)),
    "BloomForCausalLM": ("BLOOM", BloomConfig(vocab_size=50, n_layer=2)),
    "MptForCausalLM": ("MPT", MptConfig(vocab_size=50, n_layers=2)),
    "FalconForCausalLM": ("Falcon 1", FalconConfig(**SMALL, num_attention_heads=4)),
    "DeepseekV3ForCausalLM": ("DeepSeek V3, R1", DeepseekV3Config(num_hidden_layers=2)),
    "DiffLlamaForCausalLM": ("DiffLlama", DiffLlamaConfig(num_hidden_layers=2)),
    "MambaForCausalLM": ("Mamba", MambaConfig(**SMALL)),
    "Mamba2ForCausalLM": ("Mamba 2", Mamba2Config(num_hidden_layers=2)),
    "JambaForCausalLM": ("Jamba", JambaConfig(num_hidden_layers=8)),
    "Qwen3NextForCausalLM": ("Qwen 3 Next", Qwen3NextConfig(num_hidden_layers=4)),
}
COLUMNS: dict[str, Callable[..., None]] = {}


def column(test: Callable[..., None]) -> Callable[..., None]:
    """Makes a test of each family a column of the document."""
    COLUMNS[test.__name__.removeprefix("test_")] = test
    return pytest.mark.parametrize("family", ROWS)(test)


@dataclasses.dataclass(frozen=True)
class Case:
    """A family's model and questions as files, and where the run is."""

    model: Path
    data: Path
    run: Path


@cache
def questions(folder: Path, family: str) -> Case:
    """A tiny model that denies much of what it says itself, and the questions to that."""
    model, tokenizer = tiny.build_model(family, seed=ROWS[family].seed), tiny.build_tokenizer()
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
    return model.eval()(IDS, use_cache=False).logits


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


@column
def test_score(family: str) -> None:
    """The NAS of each head equals the paper's equation on eager attention."""
    model, tokenizer = tiny.build_model(family, dtype=torch.float64), tiny.build_tokenizer()
    example = BinaryExample("What is the capital of France?", True, "Paris")
    prompt = PromptBuilder(tokenizer).binary(example)
    with reference.softmax_in_float64():
        nas = score(model, tokenizer, [example]).nas[0]
    place = (prompt.positive_position, prompt.negative_position, prompt.first_row)
    expected = reference.nas_of_sample(model, torch.tensor(prompt.token_ids), *place)
    assert expected.abs().max() > 0.05
    torch.testing.assert_close(nas.double(), expected, atol=1e-6, rtol=1e-5)


@column
def test_diagnose(family: str, folder: Path) -> None:
    """The lean to No, which the tiny model has, is found."""
    case = questions(folder, family)
    found = printed("diagnose", case.model, "--data", case.data, *sets(QUICK))
    assert 0 < len(found["heads"]) <= 6
    assert found["lean"]["yes_rate"] < 0.5


@column
def test_align(family: str, folder: Path) -> None:
    """Heads are kept, and only their rows move."""
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
    assert all(re.search(r"\.(q_proj|k_proj|qkv_proj|query_key_value)\.weight$", n) for n in moved)


@column
def test_export(family: str, folder: Path) -> None:
    """Both forms are written, each with its card."""
    case = questions(folder, family)
    for form in ("merged", "adapter"):
        assert (exported(case, form) / "README.md").is_file()
    assert (exported(case, "adapter") / "adapter_config.json").is_file()
    assert (exported(case, "merged") / "model.safetensors").is_file()


@column
@torch.no_grad()
def test_reload(family: str, folder: Path) -> None:
    """Transformers and PEFT alone make of both forms what nasalign makes of the run."""
    case = questions(folder, family)
    merged, adapter = exported(case, "merged"), exported(case, "adapter")
    model, _ = load(str(case.model))
    before = logits(model)
    load_adapter(case.run / "adapter", model).apply(model)
    expected = logits(model)
    assert not torch.allclose(before, expected, atol=1e-3)
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(merged)), expected)
    base = AutoModelForCausalLM.from_pretrained(case.model)
    said = logits(PeftModel.from_pretrained(base, adapter))
    torch.testing.assert_close(said, expected, atol=1e-4, rtol=1e-4)


def refusal(folder: Path, architecture: str) -> str:
    """What ``load`` says of a model whose weights and tokenizer cannot even be read."""
    config = REFUSED[architecture][1]
    config.architectures = [architecture]
    config.save_pretrained(folder)
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError) as caught:
        load(str(folder))
    return str(caught.value)


@pytest.mark.parametrize("architecture", REFUSED)
def test_what_is_refused_is_refused_by_its_configuration(architecture: str, tmp_path: Path) -> None:
    said = refusal(tmp_path, architecture)
    assert re.fullmatch(r"The architecture \w+ is not supported: .+\.", said), said
    assert table(("models", "refused, since"), [refused_line(architecture, said)])[-1] in written()


def test_a_folder_that_is_supported_is_not_refused_by_its_configuration(tmp_path: Path) -> None:
    tiny.build_model("llama").config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(str(tmp_path))


def refused_line(architecture: str, said: str) -> tuple[str, str]:
    why = said.partition("not supported: ")[2].removesuffix(".")
    return REFUSED[architecture][0], re.sub(
        r"only \d+ of its \d+ layers", "only some of its layers", why
    )


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    lines = [header, tuple("---" for _ in header), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def written() -> list[str]:
    return DOCUMENT.read_text(encoding="utf-8").splitlines()


def matrix() -> list[str]:
    """The matrix as the document has it: a mark stands for a test of this file."""
    names = {family: type(tiny.build_model(family)).__name__ for family in ROWS}
    marks = ["✓"] * len(COLUMNS)
    rows = [(row.models, f"`{names[one]}`", row.special, *marks) for one, row in ROWS.items()]
    return table(("models", "architecture", "what is special", *COLUMNS), rows)


def test_the_document_has_a_cell_for_each_test_and_no_other() -> None:
    assert set(ROWS) == set(tiny.FAMILIES)
    lines = [line for line in written() if line.startswith("|")]
    expected = matrix()
    assert lines[: len(expected)] == expected
    assert len(lines) == len(expected) + 2 + len(REFUSED)
