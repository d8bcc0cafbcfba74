"""Layers that do not run, and whether a model is exact without them.

What enters a layer of most decoders is all that the layers below leave behind. Where there are
other ways between layers (keys or residuals that later layers take up again), a pass that begins in
the middle gives something else, or fails; one pass of two prompts shows it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicLayer, PreTrainedModel

from nasalign.inference.batches import HasTokens
from nasalign.inference.forward import answer_logits
from nasalign.inference.prefix import agree

_TUPLES: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
"""Length of the output of layers that return a tuple, as was seen when they ran."""


@contextmanager
def idle(
    layers: Sequence[nn.Module], indices: range, last: Callable[[], Tensor] | None = None
) -> Iterator[None]:
    """Make layers return their input, and the last of them what ``last`` returns, if given."""

    def forward_of(index: int) -> Callable[..., Any]:
        def forward(*given: Any, **options: Any) -> Any:
            hidden: Tensor = given[0] if given else options["hidden_states"]
            cache = next((one for one in (*given, *options.values()) if _is_cache(one)), None)
            if cache is not None and isinstance(cache.layers[index], DynamicLayer):
                # The model makes masks and positions from the length of the cache, so an idle
                # layer stores blank keys of that length, of one head and size 1.
                blank = hidden.new_zeros(hidden.shape[0], 1, hidden.shape[1], 1)
                cache.update(blank, blank, index)
            output = last() if last and index == indices[-1] else hidden
            length = _TUPLES.get(layers[index])
            return output if length is None else (output, *[None] * (length - 1))

        return forward

    # An instance may have a forward of its own already, set by accelerate.
    own = {index: layers[index].__dict__.get("forward") for index in indices}
    for index in indices:
        layers[index].forward = forward_of(index)
    try:
        yield
    finally:
        for index, previous in own.items():
            if previous is None:
                del layers[index].forward
            else:
                layers[index].forward = previous


@contextmanager
def inputs_seen(layers: Sequence[nn.Module], seen: dict[int, list[Tensor]]) -> Iterator[None]:
    """Append what enters some layers to the lists in ``seen``, by index and in order of passes.

    Of all layers that run, it is noted whether they return tuples.
    """

    def see(index: int) -> Callable[..., None]:
        def hook(module: nn.Module, given: tuple[Any, ...], options: dict[str, Any]) -> None:
            seen[index].append(given[0] if given else options["hidden_states"])

        return hook

    def note(module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, tuple):
            _TUPLES[module] = len(output)

    hooks = [
        layers[index].register_forward_pre_hook(see(index), with_kwargs=True) for index in seen
    ]
    hooks += [layer.register_forward_hook(note) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def runs_from(
    model: PreTrainedModel,
    layers: Sequence[nn.Module],
    layer: int,
    prompts: Sequence[HasTokens],
    prefix: int,
) -> bool:
    """Whether passes that begin at a layer, with what enters it, give what whole passes give.

    Args:
        model: the model.
        layers: its L layers.
        layer: the first that runs.
        prompts: a few prompts to try.
        prefix: number of their shared leading tokens that run once; they are tried without too.
    """

    def same(shared: int) -> bool:
        seen: dict[int, list[Tensor]] = {layer: []}

        def whole() -> Tensor:
            seen[layer].clear()  # of a pass in which memory ran out
            with inputs_seen(layers, seen):
                return answer_logits(model, prompts, prefix=shared)

        def part() -> Tensor:
            passes = iter(seen[layer])
            with idle(layers, range(layer), lambda: next(passes)):
                return answer_logits(model, prompts, prefix=shared)

        return agree(whole, part)

    return all(same(shared) for shared in {0, prefix})


def _is_cache(value: Any) -> bool:
    return isinstance(value, Cache)
