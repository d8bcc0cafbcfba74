"""The main job from a model's folder to the run directory, on tiny models and on the real one."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

import plain_reader
from cases import AFFIRMS, DENIES, case, lean_the_other_way, sets
from fault_tools import printed
from nasalign.models.loading import load

QUICK = ("sides=both", "epochs=3", "n=4", "k=8", "learning_rate=1e-3", "bootstrap_samples=100")
QUICK += ("answer_tokens=6",)
EMBEDDED = ("probing_questions=150", "tuning_samples=32", "validation_samples=12")
EMBEDDED += ("bootstrap_samples=200",)
FILES = {"run.json", "SHA256SUMS", "parametric.jsonl", "probing.jsonl", "nas.safetensors"}
FILES |= {"heads.json", "tuning.jsonl", "side_effects.json", "attention.json", "adapter"}
FILES |= {"metrics.json", "report.html", "eval", "threshold.json"}
FILES |= {"held_back.before.jsonl", "held_back.after.jsonl"}


def run(*arguments: object, settings: tuple[str, ...] = QUICK) -> dict:
    return printed(*arguments, *sets(settings))


def logits(name: Path | str, adapter: Path | None = None) -> torch.Tensor:
    model, _ = load(str(name))
    if adapter:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    with torch.no_grad():
        return model(torch.arange(5, 45)[None]).logits


def test_align_leaves_what_the_design_names_and_its_adapter_is_exact(tmp_path: Path) -> None:
    model, data = case(tmp_path, DENIES)
    printed = run("align", model, "--data", data, "--out", tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    config = json.loads((tmp_path / "run" / "adapter" / "adapter_config.json").read_text())
    modules = config["target_modules"]
    assert modules == sorted(modules)  # a set's order differs from process to process
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["datasets"] == printed["datasets"]
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    names = ("probing.jsonl", "eval/questions.before.jsonl")
    probed, evaluated = ({row["question"] for row in rows(tmp_path / "run" / n)} for n in names)
    assert probed
    assert evaluated
    assert not probed & evaluated  # the subjects are apart
    assert facts["adapter"]["heads_kept"] > 0
    assert facts["halting"]["kind"] == "share"  # no true positive, so tau had a stand-in

    tuned = logits(model, tmp_path / "run" / "adapter")
    assert not torch.allclose(tuned, logits(model), atol=1e-3)
    export = tmp_path / "merged"
    run("export", tmp_path / "run", export, settings=())
    torch.testing.assert_close(logits(export), tuned, atol=1e-5, rtol=0)
    weights = load_file(Path(model) / "model.safetensors")
    one_rank = plain_reader.merged(weights, tmp_path / "run" / "adapter")
    ours = load_file(export / "model.safetensors")
    assert all(torch.equal(one_rank[name], weight) for name, weight in ours.items())

    again = run("evaluate", model, "--data", data, "--adapter", tmp_path / "run")
    assert again["recall"] == printed["datasets"]["questions"]["after"]["recall"]
    asked = run("ask", model, "Is word1 a word?", "--adapter", tmp_path / "run", settings=())
    assert asked["aligned"]["p_yes"] > asked["untouched"]["p_yes"]


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_nothing_to_fix_is_said_and_diagnosed(tmp_path: Path) -> None:
    model, data = case(tmp_path, AFFIRMS)
    only_no = (*QUICK, "direction=negative")
    printed = run("align", model, "--data", data, "--out", tmp_path / "run", settings=only_no)
    assert "Nothing to fix" in printed["nothing_to_fix"]
    assert (tmp_path / "run" / "diagnosis.json").exists()
    assert not (tmp_path / "run" / "adapter").exists()
    diagnosed = run("diagnose", model, "--data", data)
    assert "leans to Yes" in diagnosed["sentence"]
    assert diagnosed["lean"]["direction"] == "positive"
    assert diagnosed["lean"]["false_positives"]["interval"][0] > 0.5


def test_diagnose_says_that_it_leans_to_no(tmp_path: Path) -> None:
    model, data = case(tmp_path, DENIES)
    diagnosed = run("diagnose", model, "--data", data, "--out", tmp_path / "run")
    assert "leans to No by 50.0 percentage points" in diagnosed["sentence"]
    assert diagnosed["metrics"]["recall"] == 0
    lean = diagnosed["lean"]
    assert (lean["direction"], lean["yes_rate"], lean["share_of_yes"]) == ("negative", 0, 0.5)
    assert lean["false_negatives"]["share"] == 1
    assert lean["false_positives"]["share"] == 0
    assert (tmp_path / "run" / "diagnosis.json").exists()


def test_a_lean_to_yes_is_found_and_corrected(tmp_path: Path) -> None:
    model, data = case(tmp_path, DENIES, mirrored=True)
    printed = run("align", model, "--data", data, "--out", tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["direction"]["chosen"] == "positive"
    assert facts["direction"]["false_positives"]["share"] > 0.9
    assert facts["adapter"]["heads_kept"] > 0
    assert printed["datasets"]["questions"]["before"]["yes_rate"] > 0.9
    p_no = []
    for side in ("before", "after"):
        told = rows(tmp_path / "run" / "eval" / f"questions.{side}.jsonl")
        p_no.append(sum(row["p_no"] for row in told))
    assert p_no[1] > p_no[0]  # so few steps turn no verdict
    asked = rows(tmp_path / "run" / "probing.jsonl")
    assert {row["answer_asked"] for row in asked} == {"banana"}
    heads = json.loads((tmp_path / "run" / "heads.json").read_text())
    diagnosed = run("diagnose", model, "--data", data, "--out", tmp_path / "diagnosis")
    assert diagnosed["lean"]["direction"] == "positive"
    assert diagnosed["heads"] == heads


@pytest.mark.long
@pytest.mark.slow
def test_the_embedded_model_affirms_more_of_what_it_knows(tmp_path: Path) -> None:
    settings = (*EMBEDDED, "evaluation_questions=40", "side_effect_questions=10")
    printed = run("align", "smollm2-135m", "--out", tmp_path / "run", settings=settings)
    figures = printed["datasets"]["facts"]
    assert figures["before"]["recall"] <= 0.05
    assert figures["after"]["recall"] > figures["before"]["recall"]
    run("export", tmp_path / "run", tmp_path / "merged", settings=())
    tuned = logits("smollm2-135m", tmp_path / "run" / "adapter")
    torch.testing.assert_close(logits(tmp_path / "merged"), tuned, atol=1e-4, rtol=0)


@pytest.mark.long
@pytest.mark.slow
def test_the_embedded_model_made_to_say_yes_affirms_less_of_what_is_wrong(tmp_path: Path) -> None:
    model, tokenizer = load("smollm2-135m")
    lean_the_other_way(model, tokenizer)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    # The rate is 20 times the preset's: two heads and four steps have to do.
    settings = (*EMBEDDED, "evaluation_questions=30", "side_effect_questions=0")
    settings += ("n=2", "rho=-1000", "learning_rate=8e-3")
    printed = run("align", tmp_path / "model", "--out", tmp_path / "run", settings=settings)
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["direction"]["chosen"] == "positive"
    rates = [printed["datasets"]["facts"][side]["yes_rate"] for side in ("before", "after")]
    assert rates[0] > 0.9
    assert abs(rates[1] - 0.5) < abs(rates[0] - 0.5)
