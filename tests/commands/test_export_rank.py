"""An exported adapter of low rank says what it lacks, wherever it goes on from there."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from aligned import aligned
from fault_tools import done, printed, said
from nasalign.adapters.rank import vllm_text

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


@pytest.mark.parametrize(
    ("rank", "least"), [(1, 1), (2, 8), (8, 8), (48, 64), (144, 256), (257, 320), (384, 512)]
)
def test_vllm_is_told_the_least_rank_of_its_list(rank: int, least: int) -> None:
    assert vllm_text(rank).endswith(f"--enable-lora --max-lora-rank {least}.")
    assert f"Its rank is {rank};" in vllm_text(rank)


def test_a_rank_above_its_list_is_said_with_the_ways_out() -> None:
    assert "vLLM takes at most 512; for vLLM, export it with --rank 512" in vllm_text(513)
    assert "max-lora-rank" not in vllm_text(513)


@pytest.mark.parametrize(("asked", "rank", "least"), [((), 32, 32), (("--rank", "9"), 9, 16)])
def test_console_json_and_card_say_the_rank(
    asked: tuple[str, ...], rank: int, least: int, tmp_path: Path
) -> None:
    run = aligned(tmp_path)
    how = ("--format", "adapter", *asked)
    sentence = f"Its rank is {rank}; vLLM serves it with --enable-lora --max-lora-rank {least}."
    assert sentence in said(done("export", run, tmp_path / "one", *how))
    assert printed("export", run, tmp_path / "two", *how)["rank"] == rank
    card = (tmp_path / "two" / "README.md").read_text().replace("\\", "")
    assert sentence in card
    whole = said(done("export", run, tmp_path / "three"))
    assert "vLLM" not in whole + (tmp_path / "three" / "README.md").read_text()


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
