"""An exported adapter of low rank says what it lacks, wherever it goes on from there."""

import json
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from aligned import aligned
from nasalign.commands import app

RUNNER = CliRunner()
IDS = torch.arange(5, 45)[None]


def test_console_json_and_card_say_what_is_lacking(tmp_path: Path) -> None:
    run = aligned(tmp_path)
    words = ["export", str(run), str(tmp_path / "low"), "--format", "adapter", "--rank", "4"]
    shown = RUNNER.invoke(app, words)
    assert shown.exit_code == 0, shown.output
    words[2] = str(tmp_path / "again")
    found = json.loads(RUNNER.invoke(app, [*words, "--json"]).stdout)["reduction"]
    assert found["rank"] == 4
    card = (tmp_path / "low" / "README.md").read_text()
    assert card == (tmp_path / "again" / "README.md").read_text()
    assert "reduced to a low rank" in card
    for text in (card, shown.output):
        assert f"lacks {found['error']:.1%} of its norm".replace("%", " %") in " ".join(
            text.split()
        )
        for error in found["modules"].values():
            assert f"{error:.4f}" in text
    whole = RUNNER.invoke(app, ["export", str(run), str(tmp_path / "whole"), "--format", "adapter"])
    assert "lacks" not in whole.output + (tmp_path / "whole" / "README.md").read_text()


def test_a_copy_and_a_checkpoint_of_a_reduced_adapter_say_so_too(tmp_path: Path) -> None:
    run, low = aligned(tmp_path), str(tmp_path / "low")
    said = []
    words = ["export", str(run), low, "--format", "adapter", "--rank", "4", "--json"]
    said.append(json.loads(RUNNER.invoke(app, words).stdout))
    for form in ("adapter", "merged"):
        words = ["export", low, str(tmp_path / form), "--format", form, "--json"]
        words += ["--model", str(tmp_path / "model")]
        said.append(json.loads(RUNNER.invoke(app, words).stdout))
        assert "Reduced to rank 4" in (tmp_path / form / "README.md").read_text()
    assert said[0]["reduction"] == said[1]["reduction"] == said[2]["reduction"]
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    with torch.no_grad():
        plain = base(IDS).logits.clone()
        expected = PeftModel.from_pretrained(base, low)(IDS).logits
        torch.testing.assert_close(merged(IDS).logits, expected, atol=1e-4, rtol=0)
        assert (expected - plain).abs().max() > 0.01
