"""Activated LoRA: low-rank changes that act from a sequence of tokens on, and nowhere before.

K. Greenewald et al., "Activated LoRA: Fine-tuned LLMs for Intrinsics", 2025. The sequence is here
the instruction of Prompt I: a prompt without it, such as one for a free answer, is answered by the
untouched model to the bit. PEFT's ``alora_invocation_tokens`` has the same rule.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from nasalign.adapters.adapter_checks import peft_config
from nasalign.adapters.adapter_file import peft_tensors, write_peft
from nasalign.errors import ModelError, PromptError
from nasalign.head_rows.low_rank import RANK, LowRankChange, Outputs
from nasalign.inference.generation import TokenIds
from nasalign.inference.prefix import common_beginning, shared_prefix
from nasalign.models.geometry import text_model
from nasalign.models.names import public_name
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


def invocation_of(material: Material, prompts: Sequence[Any]) -> tuple[int, ...]:
    """Return the tokens that begin all yes/no prompts and no prompt for a free answer.

    Raises:
        PromptError: there are none.
    """
    builder, question = material.builder(), material.asked[0].question
    own = prompts[0].token_ids
    free = common_beginning([TokenIds(builder.parametric(question)), TokenIds(own)])
    found = own[free : shared_prefix(prompts)]
    if not found:
        raise PromptError(
            "The yes/no prompts begin with no tokens of their own, by which a LoRA could be "
            "activated; name both answers in front of the question."
        )
    return found


def write_activated(folder: Path, change: ActivatedChange, base_model: str) -> None:
    """Write a change as an adapter of PEFT, which activates it by the same tokens."""
    changes = {name: (a.float(), b.float()) for name, (a, b) in change.factors.items()}
    config = peft_config(changes, RANK, public_name(base_model))
    config["alora_invocation_tokens"] = change.invocation.tolist()
    write_peft(folder, peft_tensors(changes), config)


def activated_fit(
    material: Material, search: RateSearch, fresh: Callable[[], ActivatedChange]
) -> Fitted:
    """Return the best change of a search, which a run of its own keeps as an adapter of PEFT."""
    tokenizer = material.session.tokenizer

    def about(trained: ActivatedChange) -> dict[str, str]:
        if material.run.folder:
            write_activated(material.run.folder / "adapter", trained, material.model.name_or_path)
        return {"activated by": tokenizer.decode(trained.invocation).strip()}

    return search.best(fresh, about)


def _fit(material: Material) -> Fitted:
    model, seed = material.model, material.settings.seed
    search = RateSearch(material, ALORA.name, ALORA.title, holds=False)  # none is touched
    prompts = [prompt for prompt, _ in chain.from_iterable(search.pairs)]
    outputs, invocation = attention_linear(model), invocation_of(material, prompts)
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
