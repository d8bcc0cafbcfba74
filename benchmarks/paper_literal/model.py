"""The model by plain transformers: eager attention with all of its weights, in float64."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from paper_literal.prompts import Tokens, as_turn


@dataclass
class Literal:
    """A model and its tokenizer."""

    model: Any
    tokenizer: Any

    @classmethod
    def load(
        cls, folder: str, adapter: Path | None = None, dtype: torch.dtype = torch.float64
    ) -> "Literal":
        """Loads a folder of the hub's layout, with a PEFT adapter if one is given."""
        how: dict[str, Any] = {"attn_implementation": "eager", "dtype": dtype}
        model = AutoModelForCausalLM.from_pretrained(folder, **how).eval().requires_grad_(False)
        if adapter:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload().eval()
            model.to(dtype).requires_grad_(False)
        return cls(model, AutoTokenizer.from_pretrained(folder))

    @torch.no_grad()
    def run(self, ids: list[int]) -> tuple[list[Tensor], Tensor]:
        """Returns A of each layer, [H, T, T], and the probabilities of the next token."""
        output = self.model(torch.tensor([ids]), output_attentions=True, use_cache=False)
        return [one[0] for one in output.attentions], output.logits[0, -1].double().softmax(-1)

    def words(self, word: str) -> list[int]:
        """The tokens that are a word, whatever its case and the space before it."""
        found = {
            ids[0]
            for form in (word, word.lower(), word.upper())
            for text in (form, f" {form}")
            if len(ids := self.tokenizer(text, add_special_tokens=False)["input_ids"]) == 1
        }
        return sorted(found)

    @torch.no_grad()
    def free(self, prompt: str, tokens: int) -> tuple[str, float]:
        """Returns a greedy answer, and the entropy of its first token in nats."""
        ids = self.tokenizer(as_turn(self.tokenizer, prompt), add_special_tokens=False)["input_ids"]
        _, probabilities = self.run(ids)
        prompted = torch.tensor([ids])
        how = {"do_sample": False, "pad_token_id": self.tokenizer.eos_token_id}
        output = self.model.generate(
            prompted, attention_mask=torch.ones_like(prompted), max_new_tokens=tokens, **how
        )
        entropy = -float((probabilities * probabilities.clamp_min(1e-300).log()).sum())
        return self.tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True), entropy


def nas(weights: Tensor, tokens: Tokens) -> float:
    """Eq. 1 of one head, row by row; a row in which a weight is 0 adds nothing."""
    total = 0.0
    rows = weights[tokens.first_row :, [tokens.yes, tokens.no]].tolist()
    for to_yes, to_no in rows:
        if to_yes > 0 and to_no > 0:
            total += (to_yes + to_no) * math.log(to_no / to_yes)
    return total


def nas_of_heads(layers: list[Tensor], tokens: Tokens) -> list[list[float]]:
    """Eq. 1 of every head of a sample, by layer and head."""
    return [[nas(head, tokens) for head in layer] for layer in layers]
