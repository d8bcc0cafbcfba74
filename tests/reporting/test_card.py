"""A card is what the hub reads, has the figures of the run, and is safe whatever names hold."""

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard

from nasalign.adapters.adapter_file import Origin, Reduction, read_adapter, write_adapter
from nasalign.adapters.rounding import Rounding
from nasalign.config import load_preset
from nasalign.evaluation.metrics import METRICS
from nasalign.prompts.wordings import INSTRUCTIONS
from nasalign.reporting.card import FILE, Form, model_card
from nasalign.reporting.card.base import Base
from nasalign.reporting.formats import number
from run_folder import FACTS, write_joint, write_side_effects

ROWS = {"q": 16, "k": 5}  # those that the adapter changes
EVIL = "a|b *c* [x](http://e) <script>alert(1)</script> `code`\n---\nlicense: mit\n```\n# big"


def side(value: float) -> dict[str, Any]:
    figures: dict[str, Any] = {name: value + place / 64 for place, name in enumerate(METRICS)}
    figures["intervals"] = {
        name: [figures[name] - 0.125, figures[name] + 0.125] for name in METRICS
    }
    return figures | {"n": 40}


def make_run(folder: Path, data: str = "facts", source: str = "smollm2-135m") -> Path:
    """A run directory as ``align`` leaves it, with figures of our own."""
    facts = {
        "command": "align",
        "data": data,
        "data_part": "test",
        "data_origin": f"/home/ann/{data}.jsonl",
        "probing_data": "hotpotqa",
        "probing_origin": "/home/ann/secret/hotpot_dev.json",
        "further": ["/home/ann/strategyqa_train.json"],
        "model": FACTS["model"] | {"name": "/home/ann/models/base", "source": source},
        "versions": {"python": "3.11.7", "nasalign": "0.1.0", "torch": "2.13.0+cpu"},
        "settings": load_preset("fast").as_dict() | {"k": 60},
        "examples": {data: {"n": 40}, "strategyqa": {"n": 40}},
        "probing": {"asked": 480, "known": 163, "tuning": 96, "validation": 32},
        "adapter": {"heads_kept": 2, "parameters": 1344},
    }
    metrics = {data: {"before": side(0.25), "after": side(0.5)}}
    metrics["strategyqa"] = {"before": side(0.375), "after": side(0.3125)}
    heads = [
        {"record": "head", "layer": layer, "head": 1, "kept": kept}
        for layer, kept in ((2, True), (0, False), (1, True))
    ]
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(facts))
    (folder / "metrics.json").write_text(json.dumps({"datasets": metrics}))
    (folder / "tuning.jsonl").write_text("".join(json.dumps(head) + "\n" for head in heads))
    changes = {name: (torch.zeros(rows, 64), torch.eye(64, rows)) for name, rows in ROWS.items()}
    write_adapter(folder / "adapter", changes, Origin("base", "rows", "float32"), source)
    return folder


def card_of(run: Path, form: Form = "adapter", base: str = "smollm2-135m") -> ModelCard:
    path = run / FILE
    text = model_card(run, run / "adapter", form, base, name=f"{Path(base).name}.gguf")
    path.write_text(text, encoding="utf-8")
    return ModelCard.load(path)


@pytest.mark.parametrize("form", ["adapter", "merged"])
def test_the_metadata_are_the_hubs_and_the_figures_those_of_the_run(
    form: Form, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run")
    card = card_of(run, form)
    data = card.data
    assert data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert data.base_model_relation == {"adapter": "adapter", "merged": "finetune"}[form]
    assert data.library_name == {"adapter": "peft", "merged": "transformers"}[form]
    assert data.license == "apache-2.0"
    assert data.datasets is None  # it was read from a file
    assert {"nasalign", "negative-bias"} <= set(data.tags)
    metrics = json.loads((run / "metrics.json").read_text())["datasets"]
    results = {(one.dataset_name, one.metric_type): one for one in data.eval_results}
    assert set(results) == {(name, metric) for name in metrics for metric in METRICS}
    for (name, metric), result in results.items():
        before, after = metrics[name]["before"], metrics[name]["after"]
        assert result.metric_value == after[metric]
        assert result.metric_args == {
            "before": before[metric],
            "interval_95": after["intervals"][metric],
            "n": 40,
            "decoder": "logits",
        }
        low, high = map(number, after["intervals"][metric])
        assert f"| {number(after[metric])} ({low} to {high}) |" in card.text
    assert results["strategyqa", "f1"].dataset_type == "local-file"
    assert results["strategyqa", "f1"].dataset_split == "all"
    assert results["facts", "f1"].dataset_split == "test"


def test_only_data_from_the_hub_are_called_by_their_id_on_the_hub(tmp_path: Path) -> None:
    def card(data: str, probing: str, further: str) -> ModelCard:
        run = make_run(tmp_path / f"{len(list(tmp_path.iterdir()))}", "gsm8k")
        path = run / "run.json"
        origins = {"data_origin": data, "probing_origin": probing, "further": [further]}
        path.write_text(json.dumps(json.loads(path.read_text()) | origins))
        return card_of(run)

    public = card("openai/gsm8k@main", "hotpotqa/hotpot_qa@1", "ChilleD/StrategyQA@2").data
    assert public.datasets == ["hotpotqa/hotpot_qa"]
    kinds = {result.dataset_name: result.dataset_type for result in public.eval_results}
    assert kinds == {"gsm8k": "openai/gsm8k", "strategyqa": "ChilleD/StrategyQA"}
    private = card("gsm8k.jsonl", "/mine/hotpotqa.csv", "strategyqa.jsonl")
    assert private.data.datasets is None
    assert {result.dataset_type for result in private.data.eval_results} == {"local-file"}
    for public_id in ("ChilleD", "openai/", "hotpot_qa"):
        assert public_id not in private.content
    words = re.findall(r"```sh\n(nasalign .*)\n```", private.text)[0].split()
    for pair in (
        ("--data", "gsm8k.jsonl"),
        ("--probing-data", "hotpotqa.csv"),
        ("--eval", "strategyqa.jsonl"),
    ):
        assert pair in list(pairwise(words)), pair
    assert "--source" not in words  # that is for named data sets
    embedded = card("embedded", "embedded", "mine.jsonl").data
    kinds = {result.dataset_name: result.dataset_type for result in embedded.eval_results}
    assert kinds == {"gsm8k": "nasalign-facts", "strategyqa": "local-file"}


def test_the_text_says_what_was_changed_and_how_it_is_loaded(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    text = " ".join(card_of(run).text.split())
    for part in (
        "2 of 3 heads that were tuned were kept, the others put back: layer 2, head 1; layer 1, "
        "head 1. The rows hold 1,344 weights of 134,515,008",
        "Of 480 questions of hotpotqa (hotpot\\_dev.json), the base model answers 163 correctly",
        "Judge: match",
        "96 that it denies when asked by yes or no were tuned on, and 32 were watched",
        'model = PeftModel.from_pretrained(model, ".")',
        INSTRUCTIONS["nasa"].format(positive="Yes", negative="No"),
        "4-bit GGUF file",
        "nasalign 0.1.0, torch 2.13.0+cpu; float32 on cpu",
        "License: that of the base model, apache-2.0.",
    ):
        assert part in text, part
    assert "Side effects" not in text
    merged = card_of(run, "merged").text
    assert "peft" not in merged.lower()
    for card in (text, merged):
        assert "/home" not in card


def test_the_card_of_nasa_plus_names_the_heads(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    write_joint(run)
    heads = [{"layer": 1, "head": 2, "nas": 0.5}, {"layer": 3, "head": 0, "nas": 0.25}]
    (run / "heads.json").write_text(json.dumps(heads))
    text = " ".join(card_of(run).text.split())
    named = "; ".join(f"layer {one['layer']}, head {one['head']}" for one in heads)
    assert f"{len(heads)} heads were tuned together: {named}." in text
    assert "all others are the base model's to the bit." in text


def test_side_effects_are_told_if_they_were_measured(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    write_side_effects(run)
    text = card_of(run).text
    assert "## Side effects" in text
    for figure in ("0.400", "0.390", "0.0123", "12.34", "12.40"):
        assert figure in text


def test_the_command_makes_the_run_again(tmp_path: Path) -> None:
    text = card_of(make_run(tmp_path / "run")).text
    [command] = re.findall(r"```sh\n(.*)\n```", text)
    words = shlex.split(command)
    assert words[:3] == ["nasalign", "align", "smollm2-135m"]
    for pair in (
        ("--probing-data", "hotpotqa"),
        ("--source", "hotpotqa=hotpot_dev.json"),
        ("--eval", "strategyqa"),
        ("--source", "strategyqa=strategyqa_train.json"),
        ("--set", "k=60"),
        ("--dtype", "float32"),
    ):
        assert pair in list(pairwise(words)), pair
    assert sum(word == "--set" for word in words) == 1  # only what differs from the preset


@pytest.mark.parametrize("form", ["adapter", "merged", "gguf"])
def test_names_cannot_break_the_card(form: Form, tmp_path: Path) -> None:
    source = f"/home/ann/{EVIL.replace('/', '-')}"
    run = make_run(tmp_path / "run", EVIL.replace("/", "-"), source)
    card = card_of(run, form, source)
    name = source.rpartition("/")[2]
    assert card.data.get("license") is None
    assert "mit" not in card.data.to_dict().values()
    assert card.data.base_model is None
    assert {result.dataset_name for result in card.data.eval_results} == {name, "strategyqa"}
    body = re.sub(r"```.*?\n```\n", "", card.text, flags=re.DOTALL)
    assert "<script" not in body
    assert "[x](" not in body
    assert "\n# big" not in card.text
    assert "\n---\n" not in card.text
    headings = [line for line in card.text.splitlines() if re.match(r"#+ ", line)]
    assert len([line for line in headings if line.startswith("# ")]) == 1
    assert sum(line.startswith("### ") for line in headings) == 2
    tables = [line for line in body.splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 5 for line in tables)
    [python] = re.findall(r"```python\n(.*?)\n```\n", card.text, flags=re.DOTALL)
    compile(python, "card", "exec")


def test_a_run_that_was_not_finished_has_no_figures(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "metrics.json").unlink()
    card = card_of(run)
    assert card.data.eval_results is None
    assert "not finished, so it has no figures" in card.text


def test_an_adapter_without_its_run_has_a_card(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    text = model_card(None, run / "adapter", "adapter", "someone/their-model")
    card = ModelCard(text)
    assert card.data.base_model == "someone/their-model"
    assert "exported without its run" in card.text
    assert "add it before you publish" in card.text
    assert "How to reproduce" not in card.text


def test_the_license_is_that_of_the_base_models_card(tmp_path: Path) -> None:
    front = {"license": "other", "license_name": "own", "license_link": "LICENSE", "tags": ["x"]}
    (tmp_path / "README.md").write_text(f"---\n{yaml.dump(front)}---\nText\n")
    base = Base.of(str(tmp_path))
    assert base.license == {name: front[name] for name in front if name != "tags"}
    assert (base.hub, base.title, base.place) == (None, tmp_path.name, tmp_path.name)
    (tmp_path / "README.md").write_text("---\n: [\n---\n")
    assert Base.of(str(tmp_path)).license == {}
    assert Base.of("owner/model").hub == "owner/model"
    gguf = Base.of("/home/ann/m/model.gguf")
    assert (gguf.title, gguf.place, gguf.gguf) == ("model.gguf", "m", "model.gguf")


def test_what_is_not_exact_is_said_beside_figures_that_are_of_the_exact_change(
    tmp_path: Path,
) -> None:
    run = make_run(tmp_path / "run")
    exact = "measured with the exact change"
    assert exact not in card_of(run).text
    rounded = model_card(
        run, run / "adapter", "merged", "smollm2-135m", Rounding("bfloat16", 1.002, 0.998, 0.75)
    )
    assert "to the bit" not in rounded
    for part in (exact, "100.2 % of its norm", "cosine 0.9980", "75.0 % of the changed weights"):
        assert part in rounded, part
    adapter = run / "adapter"
    reduction = Reduction(4, 0.25, {"q": 0.2, "k": 0.3}, {"q": list(range(16)), "k": [1, 3]})
    changes = {
        name: (a[:4], b[:, :4] * torch.zeros(4))
        for name, (a, b) in read_adapter(adapter).changes.items()
    }
    write_adapter(adapter, changes, Origin("base", "rows", "float32", reduction), "base")
    reduced = card_of(run).text
    for part in (exact, "Reduced to rank 4", "lacks 25.0 %", "| k | 2 | 0.3000 |", "hold 1,152 w"):
        assert part in reduced, part
