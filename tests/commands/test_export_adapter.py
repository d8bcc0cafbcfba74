"""An adapter as a GGUF file, and one that is activated by the instruction of the prompt."""

import json
import shlex
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from aligned import aligned
from fault_tools import done, invoke, printed, python, refused, said
from nasalign.adapters.activated import activated_logits
from nasalign.adapters.adapter import load_adapter
from nasalign.data.records import BinaryExample, Question, load_facts
from nasalign.inference.forward import answer_logits
from nasalign.inference.generation import TokenIds
from nasalign.models.loading import load
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder

# Takes llama.cpp's arguments, and writes down what it was given.
CONVERTER = """#!/usr/bin/env python3
import argparse, json
from pathlib import Path
parser = argparse.ArgumentParser()
parser.add_argument("adapter", type=Path)
for name in ("--outfile", "--base"):
    parser.add_argument(name, type=Path, required=True)
parser.add_argument("--outtype", choices=["f32"], required=True)
given = parser.parse_args()
found = {
    "config": json.loads((given.adapter / "adapter_config.json").read_text()),
    "base": json.loads((given.base / "config.json").read_text()),
    "bytes": (given.adapter / "adapter_model.safetensors").stat().st_size,
}
given.outfile.write_text(json.dumps(found))
"""
PROGRAM = """
import json, sys
from pathlib import Path
import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained("model").eval()
model = PeftModel.from_pretrained(model, "out").eval()
asked = json.loads(Path("asked.json").read_text())
with torch.no_grad():
    found = [model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1] for ids in asked]
save_file({str(place): one for place, one in enumerate(found)}, "found.safetensors")
assert "nasalign" not in sys.modules
"""
TEMPLATE = "{question} Is it {answer}? Say Yes or No."
ASKED = [
    BinaryExample("What is the capital of France?", True, "Paris"),
    BinaryExample("Who wrote it?", True, "Ann", context="Ann wrote it in May."),
]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("LLAMA_CPP", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return aligned(tmp_path)


def start_of(prompt: BinaryPrompt, tokens: list[int]) -> int:
    """Where the tokens stand in a prompt."""
    return next(at for at in range(99) if [*prompt.token_ids[at : at + len(tokens)]] == tokens)


def with_converter(folder: Path, script: str = CONVERTER) -> None:
    folder.mkdir()
    path = folder / "convert_lora_to_gguf.py"
    path.write_text(script)
    path.chmod(0o755)


@pytest.mark.parametrize("family", ["llama", "phi3"])
def test_an_activated_adapter_says_elsewhere_what_it_says_here(family: str, tmp_path: Path) -> None:
    run = aligned(tmp_path, family)
    found = printed("export", run, tmp_path / "out", "--format", "adapter", "--activated")
    tokens = found["activation"]["tokens"]
    model, tokenizer = load(str(tmp_path / "model"))
    builder = PromptBuilder(tokenizer)
    prompts = [builder.binary(one) for one in ASKED]
    free = TokenIds(builder.parametric(Question("What is the capital of France?", ("Paris",))))
    starts = [start_of(one, tokens) for one in prompts]
    assert len(set(starts)) == 1
    assert starts[0] > 0
    adapter = load_adapter(run / "adapter", model)
    ours = activated_logits(model, adapter, prompts, starts[0])
    untouched = answer_logits(model, [*prompts, free], prefix=0)
    assert (ours - untouched[:2]).abs().max() > 0.05
    asked = [list(one.token_ids) for one in (*prompts, free)]
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    program = f"import os\nos.chdir({str(tmp_path)!r})\n" + PROGRAM
    ran = python("-c", program, PYTHONPATH="", MKL_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    assert ran.returncode == 0, ran.stderr
    theirs = load_file(tmp_path / "found.safetensors")
    torch.testing.assert_close(torch.stack([theirs["0"], theirs["1"]]), ours, atol=1e-5, rtol=0)
    with torch.no_grad():
        alone = model(torch.tensor([free.token_ids])).logits[0, -1]
    assert torch.equal(theirs["2"], alone)  # a free answer, to the bit


def test_what_is_said_of_the_activation(tmp_path: Path) -> None:
    run = aligned(tmp_path)
    shown = said(done("export", run, tmp_path / "one", "--format", "adapter", "--activated"))
    found = printed("export", run, tmp_path / "two", "--format", "adapter", "--activated")
    told = found["activation"]
    assert told["text"].endswith("MUST answer Yes or No.")
    assert told["prompts"] == 16
    assert told["difference"] > 0
    sentence = f"by up to {told['difference']:.4f} from those of the adapter that acts everywhere"
    assert sentence in shown
    card = " ".join((tmp_path / "two" / "README.md").read_text().replace("\\", "").split())
    assert sentence in card
    plain = printed("export", run, tmp_path / "three", "--format", "adapter")
    assert plain["activation"] is None
    assert "acts from" not in (tmp_path / "three" / "README.md").read_text()
    # What is tried: the change where the prompt has it everywhere, beside the change from there on.
    model, tokenizer = load(str(tmp_path / "model"))
    builder, adapter = PromptBuilder(tokenizer), load_adapter(run / "adapter", model)
    facts = load_facts()
    prompts = [
        builder.binary(BinaryExample(one.question, True, one.answer))
        for one in facts[:: len(facts) // 16][:16:2]
    ]
    shares = []
    with adapter.on(model):
        whole = answer_logits(model, prompts, prefix=0)
    start = start_of(prompts[0], told["tokens"])
    for logits in (whole, activated_logits(model, adapter, prompts, start)):
        said_of = logits.double().log_softmax(-1)
        answers = prompts[0].answers
        yes, no = (said_of[:, [*ids]].logsumexp(-1) for ids in (answers.positive, answers.negative))
        shares.append((yes - no).sigmoid())
    assert (shares[0] - shares[1]).abs().max() <= told["difference"] + 1e-9


def test_an_activated_adapter_is_for_others_to_read(tmp_path: Path) -> None:
    run = aligned(tmp_path)
    done("export", run, tmp_path / "out", "--format", "adapter", "--activated")
    told = refused(invoke("ask", tmp_path / "model", "Is it?", "--adapter", tmp_path / "out"))
    assert "activated by tokens of the prompt" in told
    assert "takes the adapter of a run of align" in told
    told = refused(invoke("export", run, tmp_path / "merged", "--activated"))
    assert "--activated is for an adapter" in told


def test_a_prompt_that_begins_with_the_question_activates_nothing(tmp_path: Path) -> None:
    run = aligned(tmp_path)
    facts = json.loads((run / "run.json").read_text())
    facts["settings"]["template"] = TEMPLATE
    (run / "run.json").write_text(json.dumps(facts))
    words = ("export", run, tmp_path / "out", "--format", "adapter", "--activated")
    assert "begin with no tokens of their own" in refused(invoke(*words))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("activated", [False, True])
def test_the_converter_gets_the_adapter_and_the_models_configuration(
    activated: bool, run: Path, tmp_path: Path
) -> None:
    with_converter(tmp_path / "bin")
    out = tmp_path / "out"
    more = ["--activated"] * activated
    found = printed("export", run, out / "mine", "--format", "gguf-adapter", "--rank", "8", *more)
    assert (found["target"], found["card"]) == (f"{out}/mine.gguf", f"{out}/mine.md")
    assert {path.name for path in out.iterdir()} == {"mine.gguf", "mine.md"}
    given = json.loads((out / "mine.gguf").read_text())
    assert given["base"]["architectures"] == ["LlamaForCausalLM"]
    assert given["base"]["hidden_size"]
    assert given["config"]["r"] == found["rank"] == 8
    told = given["config"].get("alora_invocation_tokens")
    # llama.cpp's server lets an adapter act from the token before these on.
    assert told == (found["activation"]["tokens"][1:] if activated else None)
    card = ModelCard.load(out / "mine.md")
    assert {"gguf", "lora"} <= set(card.data.tags)
    assert card.data.base_model_relation == "adapter"
    assert "--lora mine.gguf" in card.text
    assert "```python" not in card.text
    assert "vLLM" not in card.text


def test_without_a_converter_two_commands_are_named(run: Path, tmp_path: Path) -> None:
    there = set(tmp_path.rglob("*"))
    form = ("--format", "gguf-adapter", "--activated", "--rank", "4")
    missing = invoke("export", run, tmp_path / "mine.gguf", *form, "--model", tmp_path / "model")
    refused(missing)
    assert set(tmp_path.rglob("*")) == there
    sentence, *commands = missing.stderr.strip().splitlines()
    assert "convert_lora_to_gguf.py" in sentence
    assert "the base model's folder" in sentence
    first, second = map(shlex.split, commands)
    done(*first[1:])
    config = json.loads((tmp_path / "mine" / "adapter_config.json").read_text())
    assert config["r"] == 4
    assert config["alora_invocation_tokens"]
    assert second == [
        *("python", "llama.cpp/convert_lora_to_gguf.py", first[3]),
        *("--outfile", str(tmp_path / "mine.gguf"), "--outtype", "f32", "--base", "BASE"),
    ]


def test_what_does_not_fit_an_adapter_is_refused(run: Path, tmp_path: Path) -> None:
    words = ("export", run, tmp_path / "out", "--format", "gguf-adapter")
    assert "leave out --quantize" in refused(invoke(*words, "--quantize", "4bit"))
    assert "keeps its change in float32" in refused(invoke(*words, "--dtype", "float16"))
