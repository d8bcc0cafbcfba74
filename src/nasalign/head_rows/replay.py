"""Activation replay: the input of a layer is computed once and reused.

Tuning a head of layer l changes nothing below l. So the hidden states that enter layer l are stored
for every prompt of D and of V, and a training step or a measurement runs from layer l on. This is
exact: the stored states are what the layers below would compute. On the way up to a layer, inputs
of the layers of later heads are stored too, so that nothing below a change is computed twice.

Where an architecture has other ways between its layers than their inputs, which is tried out
(``idle.runs_from``), nothing is stored and every pass runs from the tokens.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from nasalign.head_rows.activations import GIB, MIB, ActivationMemory, StoredRows
from nasalign.head_rows.idle import idle, inputs_seen, runs_from
from nasalign.inference.batches import HasTokens, halved, in_batches
from nasalign.inference.forward import answer_logits, prefix_worth_sharing, shares_exactly
from nasalign.inference.packed import Pack, pack_logits, packed, packs_exactly
from nasalign.inference.prefix import shared_prefix
from nasalign.models import processes
from nasalign.models.geometry import HeadGeometry
from nasalign.models.memory import explained
from nasalign.nas.recorder import NasRecorder


class Replay:
    """Runs a fixed list of N prompts from a layer on, whose input is stored.

    ``batch_size`` is used while inputs are computed. Several replays may share one memory. With
    ``pack``, passes that record nothing pack their prompts in a row (``packed``), where that is
    exact.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[HasTokens],
        batch_size: int | None,
        memory: ActivationMemory,
        pack: bool = False,
    ) -> None:
        self.model, self.prompts, self.batch_size = model, prompts, batch_size
        self.memory = memory
        prefix = shared_prefix(prompts)
        self.shares = self._tried(partial(shares_exactly, model, prompts, prefix))
        self.prefix = prefix if self.shares else 0
        self.packs = pack and self._tried(partial(packs_exactly, model, prompts))
        self.layers = [model.get_submodule(name) for name in HeadGeometry.of(model).blocks]
        self._exact: dict[int, bool] = {0: True}  # by layer
        # By layer: the rows of the shared tokens, then each prompt's.
        self.inputs: dict[int, StoredRows] = {}
        own = [place for place in range(len(prompts)) if processes.mine(place)]
        lengths = [len(prompts[place].token_ids) - self.prefix for place in own]
        ends = accumulate(lengths, initial=self.prefix)
        self.spans = dict(zip(own, pairwise(ends), strict=True))  # a prompt's rows in an input
        self.rows = max((end for _, end in self.spans.values()), default=0)
        self.width = model.config.get_text_config().hidden_size
        self.dtype = model.get_input_embeddings().weight.dtype
        self.bytes_of_an_input = self.rows * self.width * self.dtype.itemsize  # in this process

    def logits(
        self,
        places: Sequence[int],
        layer: int,
        recorder: NasRecorder | None = None,
        last: Sequence[int] | None = None,
        share: bool | None = None,
    ) -> Tensor:
        """Return the logits [B, vocabulary] after some of the prompts, run from a layer on.

        The pass begins at the nearest layer up to ``layer`` with an input. The recorder records the
        NAS of the layers that run; that of those below stays 0. ``last`` is as in
        ``answer_logits``. With ``share``, the shared tokens run once; if that is faster, with None.
        """
        batch = [self.prompts[place] for place in places]
        if self.packs and recorder is None and share is None and (pack := packed(batch)):
            return self._packed(pack, places, layer, last)
        prefix = self.prefix if share else 0
        if share is None:
            prefix = prefix_worth_sharing(self.model, batch, self.prefix)
        start = self._nearest(layer)
        with ExitStack() as stack:
            if start > 0:
                passes = iter(self._passes(start, places, prefix))
                stack.enter_context(idle(self.layers, range(start), lambda: next(passes)))
            return answer_logits(self.model, batch, recorder, prefix, last)

    def _packed(
        self, pack: Pack, places: Sequence[int], layer: int, last: Sequence[int] | None
    ) -> Tensor:
        start = self._nearest(layer)
        with ExitStack() as stack:
            if start > 0:
                (inputs,) = self._passes(start, places, 0)  # [B, T, hidden]
                row = inputs.new_empty(1, len(pack.token_ids), self.width)
                for own, path in zip(inputs, pack.paths, strict=True):
                    row[0, path] = own[: len(path)]
                stack.enter_context(idle(self.layers, range(start), lambda: row))
            return pack_logits(self.model, [pack], last)

    def exact(self, layer: int) -> bool:
        """Whether a pass may begin at a layer; tried out with two prompts the first time."""
        if not self.layers or not self.spans:
            return False
        if layer not in self._exact:
            batch = [self.prompts[place] for place in list(self.spans)[:2]]
            prefix = prefix_worth_sharing(self.model, batch, self.prefix)
            self._exact[layer] = self._tried(
                partial(runs_from, self.model, self.layers, layer, batch, prefix)
            )
        return self._exact[layer]

    def _tried(self, work: Callable[[], bool]) -> bool:
        """Return what ``work`` finds out with two prompts; once more if memory runs out."""
        found: list[bool] = []
        longest = max((len(prompt.token_ids) for prompt in self.prompts), default=0)
        with explained("trying out replay", self.model, longest):
            if halved(lambda: found.append(work()), 2):
                found.append(work())
        return found[-1]

    @torch.no_grad()
    def prepare(self, layer: int, later: Sequence[int] = ()) -> None:
        """Compute and store the input of a layer, from the nearest layer below that has one.

        Other inputs give way to it. If there is no room even so, ``logits`` runs from further
        below. Inputs of ``later`` layers on the way are stored too, in that order, if they fit.
        """
        start = self._nearest(layer)
        if start == layer or not self.exact(layer):
            return
        fresh = {layer: self._room(layer)}
        while fresh[layer] is None and self.inputs:
            del self.inputs[max(self.inputs)]
            fresh[layer] = self._room(layer)
        start = self._nearest(layer)
        for other in later:
            if start < other < layer and other not in fresh and self.exact(other):
                fresh[other] = self._room(other)
        inputs = {known: kept for known, kept in fresh.items() if kept is not None}
        if inputs:
            self._fill(inputs, layer)
            self.inputs |= inputs

    def forget(self, changed: int | None, later: Sequence[int]) -> None:
        """Drop the inputs above a changed layer, and those that no later layer needs."""
        if changed is not None:
            self.inputs = {known: kept for known, kept in self.inputs.items() if known <= changed}
        needed = {self._nearest(layer) for layer in later}
        self.inputs = {known: kept for known, kept in self.inputs.items() if known in needed}

    def _nearest(self, layer: int) -> int:
        """The highest layer up to this one that has an input; layer 0 runs from the tokens."""
        return max((known for known in self.inputs if known <= layer), default=0)

    def _passes(self, layer: int, places: Sequence[int], prefix: int) -> list[Tensor]:
        """The inputs of a layer in the pass of the prefix and in that of the rest.

        They are [1, P, hidden] and [B, T - P, hidden], padded on the right; without a prefix only
        [B, T, hidden].
        """
        spans = [(0, self.prefix), *(self.spans[place] for place in places)]
        # Copied before they are padded: a padded copy in main memory would not be pinned.
        shared, *own = self.inputs[layer].on(self._device(layer), spans)
        if prefix:
            return [shared[None], nn.utils.rnn.pad_sequence(own, batch_first=True)]
        whole = [torch.cat([shared, one]) for one in own] if self.prefix else own
        return [nn.utils.rnn.pad_sequence(whole, batch_first=True)]

    def _room(self, layer: int) -> StoredRows | None:
        return self.memory.keep(self.rows, self.width, self.dtype, self._device(layer))

    def _device(self, layer: int) -> torch.device:
        return next(self.layers[layer].parameters()).device

    def _fill(self, inputs: dict[int, StoredRows], layer: int) -> None:
        """Run all prompts up to a layer and store the inputs on the way."""
        start = self._nearest(layer)
        seen: dict[int, list[Tensor]] = {known: [] for known in inputs}

        def work(places: list[int]) -> None:
            for passes in seen.values():
                passes.clear()
            self.logits(places, start, share=True)
            for known, (*prefix, rest) in seen.items():
                rows = inputs[known].rows
                if prefix:
                    rows[: self.prefix] = prefix[0][0]
                for place, hidden in zip(places, rest, strict=True):
                    first, end = self.spans[place]
                    rows[first:end] = hidden[: end - first]

        with inputs_seen(self.layers, seen), idle(self.layers, range(layer, len(self.layers))):
            in_batches(
                self.model, self.prompts, self.batch_size, work, doing="keeping what enters a layer"
            )


def replay_plan(replays: Sequence[Replay], layers: Sequence[int], what: str) -> str:
    """Return what passes need not run again, and why not where it has to run.

    Args:
        replays: of one model, with one memory.
        layers: those that passes begin at.
        what: the prompts, in words.
    """
    model, memory = replays[0].model, replays[0].memory
    alone = "" if all(replay.shares for replay in replays) else _NOT_SHARED
    if not all(replay.exact(layer) for replay in replays for layer in layers):
        return (
            "This architecture passes more to a layer than its input, so each step of tuning runs "
            f"the whole model.{alone}"
        )
    size = sum(replay.bytes_of_an_input for replay in replays)
    places = memory.places(model.device)
    room = ", then ".join(f"{place.limit / GIB:.1f} GiB of {place.name}" for place in places)
    return (
        f"Tuning runs only the layers above the head at hand: it keeps {size / MIB:.1f} MiB of "
        f"activations for {what}, for which there is {room}.{alone}"
    )


_NOT_SHARED = (
    " The beginning that prompts share runs with each of them, as this architecture keeps more of "
    "it than its cache holds."
)
