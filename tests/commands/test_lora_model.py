"""A LoRA adapter as MODEL: what is said of it, and that what comes of the run is right."""

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM

import jobs
import lora
import tiny
from aligned import changed, loaded_as_the_card_says
from fault_tools import done, invoke, printed, refused, said
from nasalign.models.loading import load
from nasalign.models.names import weights_stamp
from nasalign.reporting.card.base import Base
from nasalign.reporting.report.origin import model_rows, public
from nasalign.reporting.report.run_folder import RunFiles
from nasalign.run_file import read_run


@pytest.fixture
def made(saved: Path, tmp_path: Path) -> Path:
    """The folder of an adapter for a tiny Llama."""
    lora.adapter(saved, tmp_path / "lora")
    return tmp_path / "lora"


def test_it_is_said_on_the_terminal_in_run_json_and_in_the_report(
    made: Path, saved: Path, tmp_path: Path
) -> None:
    sentence = f"{made} is a LoRA adapter, merged into its base model {saved}."
    assert sentence in said(done("ask", made, "Is it?", "--device", "cpu"))
    assert "LoRA" not in said(done("ask", saved, "Is it?", "--device", "cpu"))
    jobs.make(made, folder=tmp_path / "run").session()
    facts = read_run(tmp_path / "run")
    assert facts["model"]["source"] == facts["model"]["name"] == str(made)
    assert facts["model"]["base"] == str(saved)
    files = public(RunFiles.read(tmp_path / "run"))
    assert ("Merged into", saved.name) in model_rows(files)
    assert str(saved) not in json.dumps(files.facts)


@pytest.mark.parametrize("own_tokenizer", [False, True])
def test_both_exports_are_the_tuned_model_and_say_what_it_was_made_of(
    own_tokenizer: bool, made: Path, saved: Path, tmp_path: Path
) -> None:
    (made / "LICENSE").write_text("You may.")
    if own_tokenizer:
        tiny.build_tokenizer().save_pretrained(made)
    model, tokenizer = load(made, device="cpu")
    run = changed(model, tokenizer, str(made), tmp_path / "run", 0.1)
    expected = lora.logits(model)
    found = printed("export", run, tmp_path / "merged")
    assert found["copied"] == ["LICENSE"]
    assert not list((tmp_path / "merged").glob("adapter*"))
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert torch.equal(lora.logits(merged), expected)
    done("export", run, tmp_path / "adapter", "--format", "adapter")
    text = ModelCard.load(tmp_path / "adapter" / "README.md").text
    assert "The base of the run was a LoRA adapter, lora, merged into model by PEFT." in text
    assert f"AutoTokenizer.from_pretrained({'lora' if own_tokenizer else 'base'})" in text
    (tmp_path / "adapter" / "lora").symlink_to(made)
    (tmp_path / "model").symlink_to(saved)
    again = loaded_as_the_card_says(tmp_path / "adapter")
    torch.testing.assert_close(lora.logits(again), expected, atol=1e-5, rtol=0)
    asked = ("ask", made, "Is it?", "--device", "cpu", "--adapter", run)
    assert printed(*asked)["aligned"] != printed(*asked)["untouched"]


def test_given_as_adapter_it_is_named_with_the_way_to_use_it(made: Path, saved: Path) -> None:
    told = refused(invoke("ask", saved, "Is it?", "--device", "cpu", "--adapter", made))
    assert "was not written by nasalign" in told
    assert f"as a LoRA of '{saved}', give the folder as MODEL: it is merged into that" in told


def test_one_that_align_made_is_not_taken_as_a_model(saved: Path, tmp_path: Path) -> None:
    model, tokenizer = load(saved, device="cpu")
    run = changed(model, tokenizer, str(saved), tmp_path / "run", 0.1)
    told = refused(invoke("ask", run / "adapter", "Is it?", "--device", "cpu"))
    assert "is an adapter that align made; name its base model, and the adapter with --adap" in told


def test_a_changed_base_is_another_model(made: Path, folder: Path) -> None:
    config = made / "adapter_config.json"
    config.write_text(
        json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": str(folder)})
    )
    before = weights_stamp(str(made))
    assert before == weights_stamp(str(made))
    (folder / "model.safetensors").touch()
    assert weights_stamp(str(made)) != before


def test_from_the_hubs_cache_it_is_known_by_its_id(snapshot: Path) -> None:
    """Both the adapter and its base are there, and the hub is out of reach."""
    revision = "1" * 40
    entry = snapshot.parents[2] / "models--ann--lora"
    expected = lora.adapter("owner/name", entry / "snapshots" / revision)
    (entry / "snapshots" / revision / "README.md").write_text("---\nlicense: mit\n---\n")
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text(revision)
    model, _ = load("ann/lora", device="cpu")
    torch.testing.assert_close(lora.logits(model), expected, atol=1e-5, rtol=0)
    assert model.name_or_path == "ann/lora"
    base = Base.of("ann/lora")
    assert (base.hub, base.license) == ("ann/lora", {"license": "mit"})
    assert base.into
    assert base.into.hub == "owner/name"
