"""Activation replay: what enters a layer is computed once and put in again.

Tuning a head of layer l changes nothing below l. So the hidden states that enter layer l are kept
for every prompt of D and of V, and a training step or a measurement runs from layer l on. That is
exact: what is put in is what the layers below would have computed.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from nasalign.data.prompts import BinaryPrompt
from nasalign.models.geometry import HeadGeometry
from nasalign.nas.batches import in_batches
from nasalign.nas.forward import answer_logits, shared_prefix
from nasalign.nas.recorder import NasRecorder


@dataclass(frozen=True)
class LayerInput:
    """What enters a layer for N prompts that share their first P tokens.

    Attributes:
        prefix: hidden states of the shared tokens, [P, hidden].
        rest: of each prompt's further tokens, [T - P, hidden], by the prompt's place; of several
            processes each has its own.
    """

    prefix: Tensor
    rest: dict[int, Tensor]


class Replay:
    """Runs a fixed list of prompts from a layer on; what enters the layer is kept.

    Args:
        model: the model.
        prompts: N prompts.
        batch_size: prompts a batch while inputs are computed; by tokens unless given.
    """

    def __init__(
        self, model: PreTrainedModel, prompts: Sequence[BinaryPrompt], batch_size: int | None
    ) -> None:
        self.model, self.prompts, self.batch_size = model, prompts, batch_size
        self.prefix = shared_prefix(prompts)
        names = HeadGeometry.of(model).attention_modules
        self.layers = [model.get_submodule(name.rpartition(".")[0]) for name in names]
        self.inputs: dict[int, LayerInput] = {}

    def logits(
        self, places: Sequence[int], layer: int, recorder: NasRecorder | None = None
    ) -> Tensor:
        """Returns the logits [B, vocabulary] after some of the prompts, run from a layer on.

        Args:
            places: which prompts, B of them.
            layer: 0, or a layer that ``prepare`` was called for.
            recorder: takes the NAS of the layers that run; below, it stays 0.
        """
        batch = [self.prompts[place] for place in places]
        with ExitStack() as stack:
            if layer > 0:
                kept = self.inputs[layer]
                chosen = [kept.rest[place] for place in places]
                rest = nn.utils.rnn.pad_sequence(chosen, batch_first=True)
                passes = iter([kept.prefix[None], rest] if self.prefix else [rest])
                stack.enter_context(self._idle(range(layer), lambda: next(passes)))
            return answer_logits(self.model, batch, recorder, self.prefix)

    @torch.no_grad()
    def prepare(self, layer: int) -> None:
        """Computes and keeps what enters a layer, from the nearest layer below that is known."""
        if layer == 0 or layer in self.inputs:
            return
        start = max((known for known in self.inputs if known < layer), default=0)
        seen: list[Tensor] = []
        rests: dict[int, Tensor] = {}
        prefixes: list[Tensor] = []

        def work(places: list[int]) -> None:
            seen.clear()
            self.logits(places, start)
            prefixes[:] = [seen[0][0, : self.prefix].clone()]
            for place, row in zip(places, seen[-1], strict=True):
                length = len(self.prompts[place].token_ids) - self.prefix
                rests[place] = row[:length].clone()

        hook = self.layers[layer].register_forward_pre_hook(
            lambda module, inputs: seen.append(inputs[0])
        )
        try:
            with self._idle(range(layer, len(self.layers))):
                in_batches(self.model, self.prompts, self.batch_size, work)
        finally:
            hook.remove()
        if prefixes:  # else no prompt is for this process
            self.inputs[layer] = LayerInput(prefixes[0], rests)

    def forget_above(self, layer: int) -> None:
        """Drops what enters the layers above one whose rows have changed."""
        self.inputs = {known: kept for known, kept in self.inputs.items() if known <= layer}

    @contextmanager
    def _idle(self, layers: range, last: Callable[[], Tensor] | None = None) -> Iterator[None]:
        """Lets layers do nothing; the last of them gives what ``last`` returns, if it is given."""

        def forward_of(index: int) -> Callable[..., Tensor]:
            def forward(hidden: Tensor, **options: Any) -> Tensor:
                cache = options.get("past_key_values", options.get("layer_past"))
                if cache is not None:  # masks and positions are made from its length
                    blank = hidden.new_zeros(hidden.shape[0], 1, hidden.shape[1], 1)
                    cache.update(blank, blank, index)
                return last() if last and index == layers[-1] else hidden

            return forward

        # A module may have a forward of its own already, as accelerate gives it.
        own = {index: self.layers[index].__dict__.get("forward") for index in layers}
        for index in layers:
            self.layers[index].forward = forward_of(index)
        try:
            yield
        finally:
            for index, previous in own.items():
                if previous is None:
                    del self.layers[index].forward
                else:
                    self.layers[index].forward = previous
