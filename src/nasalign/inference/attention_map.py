"""The attention of heads to the two answer words along a prompt (Figures 3, 6 and 7)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.inference.forward import answer_logits
from nasalign.models.memory import explained
from nasalign.nas.recorder import NasRecorder
from nasalign.prompts.builder import BinaryPrompt


@dataclass(frozen=True)
class HeadAttention:
    """The attention of one head to the answer words of one prompt's instruction.

    ``positive`` and ``negative`` are the softmax weights on the words in the R rows from the
    prompt's ``first_row`` on, float32 on the CPU (float64 of a float64 model); 0 where the word is
    masked.
    """

    layer: int
    head: int
    positive: Tensor
    negative: Tensor
    nas: float  # of the head on the prompt (Eq. 1)
    last: Tensor  # weights of the last row, after which the answer comes, on all T tokens


@torch.no_grad()
def attention_map(
    model: PreTrainedModel, prompts: Sequence[BinaryPrompt], heads: Sequence[tuple[int, int]]
) -> list[list[HeadAttention]]:
    """Return the attention of some heads in each prompt, by prompt and head, one pass a prompt."""
    layers: dict[int, Tensor] = {}  # by layer, [1, H, R, 2]
    last: dict[int, Tensor] = {}  # by layer, [1, H, T]
    wanted = {layer for layer, _ in heads}

    def into(found: dict[int, Tensor]) -> Callable[[int, Tensor], None]:
        def watch(layer: int, attention: Tensor) -> None:
            if layer in wanted:
                found[layer] = attention.cpu()

        return watch

    maps = []
    with NasRecorder(model, into(layers), into(last)) as recorder:
        for prompt in prompts:
            with explained("reading the attention", model, len(prompt.token_ids)):
                answer_logits(model, [prompt], recorder)
            found = []
            for layer, head in heads:
                positive, negative = layers[layer][0, head].unbind(-1)
                nas = float(recorder.nas[0, layer, head])
                at_end = last[layer][0, head]
                found.append(HeadAttention(layer, head, positive, negative, nas, at_end))
            maps.append(found)
    return maps


def readable_tokens(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> list[str]:
    """Return each of T tokens as text; joined they are the whole text.

    A character that several tokens make up stands at the first of them, and the others are empty.
    """
    texts = [""] * len(token_ids)
    before: list[int] = []  # whole characters: a token alone would lose the space it begins with
    start = 0
    for end in range(1, len(token_ids) + 1):
        piece = list(token_ids[start:end])
        text = _decode(tokenizer, before + piece)[len(_decode(tokenizer, before)) :]
        if text.endswith("\N{REPLACEMENT CHARACTER}") and end < len(token_ids):
            continue  # in the middle of a character
        texts[start] = text
        before, start = piece, end
    return texts


def _decode(tokenizer: PreTrainedTokenizerBase, token_ids: list[int]) -> str:
    text = tokenizer.decode(
        token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    return str(text)
