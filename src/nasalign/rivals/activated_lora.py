"""Activated LoRA: low-rank changes that act from a sequence of tokens on, and nowhere before.

Its adapter is an activated one (``adapters.activated``); the sequence is here the instruction of
Prompt I.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from nasalign.adapters.activated import invocation_of, write_activated
from nasalign.errors import ModelError
from nasalign.head_rows.low_rank import LowRankChange, Outputs
from nasalign.models.geometry import text_model
from nasalign.rivals.lora import attention_linear
from nasalign.rivals.rate_search import RateSearch
from nasalign.rivals.rival import Fitted, Material, Rival

_ON = "activated_lora_is_on"
"""Attribute of a cache: whether the change acts on what follows the tokens that left it."""


class ActivatedChange(LowRankChange):
    """A LoRA that acts on the tokens from the last occurrence of ``invocation`` on.

    Attributes:
        acting: the positions of the current pass on which it acts, bool [B, T].
    """

    acting: Tensor

    def __init__(
        self, model: PreTrainedModel, outputs: Outputs, seed: int, invocation: Sequence[int]
    ) -> None:
        super().__init__(model, outputs, seed)
        self.invocation = torch.tensor(invocation)

    def hooks(self, model: PreTrainedModel) -> Iterator[RemovableHandle]:
        """Read the tokens of each pass, and add to the outputs of the modules."""
        embedded: list[Tensor] = []

        def embed(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            embedded[:] = inputs[:1]

        def decode(module: nn.Module, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> None:
            # Multimodal models have embedded the tokens before they enter the text model.
            ids, cache = named.get("input_ids", *inputs[:1]), named.get("past_key_values")
            ids = embedded[0] if ids is None else ids  # [B, T]
            self.acting = after(ids, self.invocation.to(ids.device))
            if cache is None:
                return
            if getattr(cache, _ON, False):
                self.acting = torch.ones_like(self.acting)
            on = self.acting[:, -1]
            if on.any() and not on.all():
                raise ModelError(
                    "A batch of prompts with and without the tokens that activate a LoRA cannot be "
                    "continued; ask them apart."
                )
            setattr(cache, _ON, bool(on[0]))

        yield model.get_input_embeddings().register_forward_pre_hook(embed)
        yield text_model(model)[1].register_forward_pre_hook(decode, with_kwargs=True)
        yield from super().hooks(model)

    def changed(self, output: Tensor, change: Tensor) -> Tensor:
        """Add the change where it acts."""
        acting = self.acting.to(output.device)
        if acting.shape != output.shape[:-1]:
            raise ModelError("The attention does not take tokens in the order of the prompt.")
        if not acting.any():
            return output
        return torch.where(acting[..., None], super().changed(output, change), output)


def after(ids: Tensor, sequence: Tensor) -> Tensor:
    """Return which of the tokens [B, T] stand at or after the last occurrence of [S] in their row.

    bool [B, T]; nowhere in a row without it.
    """
    size, length = len(sequence), ids.shape[1]
    places = torch.arange(length, device=ids.device)
    if length < size:
        return torch.zeros_like(ids, dtype=torch.bool)
    starts = (ids.unfold(1, size, 1) == sequence).all(dim=-1)  # [B, T - S + 1]
    last = torch.where(starts, places[: starts.shape[1]], -1).amax(dim=1)
    return places >= torch.where(last < 0, length, last)[:, None]


def activated_fit(
    material: Material, search: RateSearch, fresh: Callable[[], ActivatedChange]
) -> Fitted:
    """Return the best change of a search, which a run of its own keeps as an adapter of PEFT."""
    tokenizer = material.session.tokenizer

    def about(trained: ActivatedChange) -> dict[str, str]:
        if folder := material.run.folder:
            changes = {name: (a.float(), b.float()) for name, (a, b) in trained.factors.items()}
            sequence, base = trained.invocation.tolist(), material.model.name_or_path
            write_activated(folder / "adapter", changes, sequence, base)
        return {"activated by": tokenizer.decode(trained.invocation).strip()}

    return search.best(fresh, about)


def _fit(material: Material) -> Fitted:
    model, seed = material.model, material.settings.seed
    search = RateSearch(material, ALORA.name, ALORA.title, holds=False)  # none is touched
    prompts = [prompt for prompt, _ in chain.from_iterable(search.pairs)]
    outputs = attention_linear(model)
    invocation = invocation_of(material.builder(), prompts, material.asked[0].question)
    return activated_fit(
        material, search, lambda: ActivatedChange(model, outputs, seed, invocation)
    )


ALORA = Rival(
    "alora",
    "LoRA on attention, from the instruction on (Greenewald et al., 2025)",
    "an adapter that is activated by the instruction",
    False,
    _fit,
)
