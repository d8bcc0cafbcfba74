"""An exported adapter of low rank says what it lacks, wherever it goes on from there."""

from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from aligned import aligned
from fault_tools import done, printed, said

IDS = torch.arange(5, 45)[None]


def test_console_json_and_card_say_what_is_lacking(tmp_path: Path) -> None:
    run = aligned(tmp_path)
    low = ("--format", "adapter", "--rank", "4")
    shown = said(done("export", run, tmp_path / "low", *low))
    found = printed("export", run, tmp_path / "again", *low)["reduction"]
    assert found["rank"] == 4
    card = (tmp_path / "low" / "README.md").read_text()
    assert card == (tmp_path / "again" / "README.md").read_text()
    assert "reduced to a low rank" in card
    for text in (" ".join(card.split()), shown):
        assert f"lacks {found['error']:.1%} of its norm".replace("%", " %") in text
        for error in found["modules"].values():
            assert f"{error:.4f}" in text
    whole = done("export", run, tmp_path / "whole", "--format", "adapter")
    assert "lacks" not in whole.output + (tmp_path / "whole" / "README.md").read_text()


def test_a_copy_and_a_checkpoint_of_a_reduced_adapter_say_so_too(tmp_path: Path) -> None:
    run, low = aligned(tmp_path), tmp_path / "low"
    first = printed("export", run, low, "--format", "adapter", "--rank", "4")
    for form in ("adapter", "merged"):
        more = ("--format", form, "--model", tmp_path / "model")
        again = printed("export", low, tmp_path / form, *more)
        assert "Reduced to rank 4" in (tmp_path / form / "README.md").read_text()
        assert again["reduction"] == first["reduction"]
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    with torch.no_grad():
        plain = base(IDS).logits.clone()
        expected = PeftModel.from_pretrained(base, low)(IDS).logits
        torch.testing.assert_close(merged(IDS).logits, expected, atol=1e-4, rtol=0)
        assert (expected - plain).abs().max() > 0.01
