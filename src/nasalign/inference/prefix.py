"""The tokens that all prompts of a batch begin with, which run once.

The longest common beginning of a batch (system prompt, instruction, few-shot examples) runs with a
batch of one, and what it leaves in the cache is shared: keys and values, and the states of
recurrent layers. This is exact where a layer passes nothing on but what the cache holds, since
nothing of the prefix sees what comes after it; ``forward.shares_exactly`` tries it out. Gradients
flow through the shared keys, but not through recurrent states, which are written in place. On an
accelerator the second pass costs kernel launches, so small batches run whole.
"""

import copy
from collections.abc import Callable, Sequence
from itertools import takewhile

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, DynamicLayer, PreTrainedModel
from transformers.cache_utils import (
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionCacheLayerMixin,
)

from nasalign.inference.batches import HasRows, HasTokens
from nasalign.inference.kernels import quick_kernels
from nasalign.models.geometry import text_model
from nasalign.models.memory import is_out_of_memory


def shared_prefix(prompts: Sequence[HasTokens]) -> int:
    """Return the number P of leading tokens that all prompts share, before any ``first_row``."""
    rows = (prompt.first_row for prompt in prompts if isinstance(prompt, HasRows))
    return min([common_beginning(prompts), *rows])


def common_beginning(prompts: Sequence[HasTokens]) -> int:
    """Return the number of leading tokens that all prompts share; 0 for one, never a whole one."""
    if len(prompts) == 1:
        return 0
    first = min(prompt.token_ids for prompt in prompts)
    # In lexicographic order, all others lie between these two and share what they share.
    last = max(prompt.token_ids for prompt in prompts)
    limit = min(len(first), len(last)) - 1
    return next((place for place in range(limit) if first[place] != last[place]), limit)


def alike(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the number of leading tokens that two sequences share; a whole one may be."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def agree(one: Callable[[], Tensor], other: Callable[[], Tensor]) -> bool:
    """Whether two computations give the same tensor but for rounding; False if the other fails."""
    expected = one()
    try:
        found = other()
    except Exception as error:  # whatever a modeling file raises
        if is_out_of_memory(error):
            raise
        return False
    if found.shape != expected.shape:
        return False
    # Recurrent layers and norms compute in float32 whatever the model's dtype.
    tolerance = max(torch.finfo(expected.dtype).eps, 1e-10) ** 0.5
    expected, found = expected.cpu().double(), found.cpu().double()
    return bool((found - expected).norm() <= tolerance * expected.norm())


def is_recurrent(model: PreTrainedModel) -> bool:
    """Whether a model has layers whose state does not grow with the prompt."""
    return any(isinstance(one, LinearAttentionCacheLayerMixin) for one in empty_cache(model).layers)


def prefix_cache(model: PreTrainedModel, prompts: Sequence[HasTokens], prefix: int) -> Cache:
    """Run the P tokens that B prompts share once; return what they leave in the cache, B times."""
    cache = continued(model, empty_cache(model), torch.tensor([prompts[0].token_ids[:prefix]]))
    # Not ``batch_repeat_interleave``, which leaves recurrent states out.
    cache.reorder_cache(torch.zeros(len(prompts), dtype=torch.long, device=_device(model)))
    return cache


class Beginnings:
    """Runs beginnings of prompts, one after the other: each goes on from what it shares with the
    one before, so that in lexicographic order no token runs twice.

    Where layers hold more than keys and values, whose last tokens can be taken back, each runs
    whole.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._tokens: tuple[int, ...] = ()
        self._cache: DynamicCache | None = None

    def cache(self, tokens: tuple[int, ...]) -> Cache:
        """Return what tokens leave in the cache, which the next call changes."""
        shared = alike(self._tokens, tokens)
        cache = self._cache
        if (
            cache is None
            or not shared
            or any(type(one) is not DynamicLayer for one in cache.layers)
        ):
            cache, shared = empty_cache(self._model), 0
        else:
            cache.crop(shared - len(self._tokens))
        self._tokens, self._cache = (), None  # until it has run
        if shared < len(tokens):
            cache = continued(self._model, cache, torch.tensor([tokens[shared:]]))
        self._tokens, self._cache = tokens, cache
        return cache


def continued(model: PreTrainedModel, cache: DynamicCache, ids: Tensor) -> DynamicCache:
    """Run tokens [B, T] after those of a cache, which they are added to; return the cache."""
    for module in model.modules():  # multimodal models keep how positions moved in the last batch
        if getattr(module, "rope_deltas", None) is not None:
            module.rope_deltas = None
    with quick_kernels(model):
        text_model(model)[1](
            input_ids=ids.to(_device(model)), past_key_values=cache, use_cache=True
        )
    return cache


def _device(model: PreTrainedModel) -> torch.device:
    return model.get_input_embeddings().weight.device


def repeated(cache: Cache, count: int, device: torch.device) -> Cache:
    """Return a copy of what ``prefix_cache`` left for one prompt, for ``count`` of them.

    A forward pass appends to a cache, so that one which is used again must be copied.
    """
    copied = copy.deepcopy(cache)
    if count > 1:
        copied.reorder_cache(torch.zeros(count, dtype=torch.long, device=device))
    return copied


def empty_cache(model: PreTrainedModel) -> DynamicCache:
    """Return an empty cache, whose layers of a window keep all keys: Eq. 1 needs the
    instruction's.
    """
    cache = DynamicCache(config=model.config)
    for index, layer in enumerate(cache.layers):
        if type(layer) is DynamicSlidingWindowLayer:
            cache.layers[index] = DynamicLayer()
        elif type(layer) is LinearAttentionAndSlidingWindowAttentionLayer:
            cache.layers[index] = LinearAttentionAndFullAttentionLayer(layer.number_of_states)
    return cache
