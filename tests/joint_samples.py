"""Heads, settings and pairs to tune heads together with, and a plain look at chances."""

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from nasalign.config import Settings
from nasalign.data.records import BinaryExample
from nasalign.nas.heads import Head
from nasalign.nasa_plus.joint_pairs import PromptPair
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder

HEADS = [Head(1, 2, 0.0), Head(2, 0, 0.0), Head(1, 3, 0.0), Head(2, 3, 0.0)]
SETTINGS = Settings(
    centring=0.5,
    kl_weight=3.0,
    joint_batch_size=4,
    joint_epochs=3,
    joint_learning_rate=1e-2,
    warmup_ratio=0.0,
)


def samples(tokenizer: PreTrainedTokenizerFast, kind: str, start: int = 0) -> list[PromptPair]:
    builder = PromptBuilder(tokenizer)
    return [
        PromptPair(
            *(
                builder.binary(BinaryExample(f"What is word{number}?{' Say' * (number % 3)}", *one))
                for one in ((True, "gold"), (False, "the yen"))
            ),
            kind,
        )
        for number in range(start, start + 5)
    ]


def literal_chances(model: PreTrainedModel, prompt: BinaryPrompt) -> tuple[Tensor, ...]:
    chances = model(input_ids=torch.tensor([prompt.token_ids])).logits[0, -1].softmax(-1)
    return tuple(
        torch.stack([chances[token] for token in tokens]).sum()
        for tokens in (prompt.answers.positive, prompt.answers.negative)
    )


def literal_loss(model: PreTrainedModel, part: list[PromptPair]) -> Tensor:
    surprise, odds = [], []
    for pair in part:
        (yes, no), (yes_wrong, no_wrong) = (
            literal_chances(model, prompt) for prompt in (pair.right, pair.wrong)
        )
        surprise.append(-(yes.log() + no_wrong.log()) / 2)
        odds += [(yes / no).log(), (yes_wrong / no_wrong).log()]
    leans = torch.stack(odds).reshape(-1, 2).mean(dim=1)
    return torch.stack(surprise).mean() + SETTINGS.centring * leans.square().mean()
