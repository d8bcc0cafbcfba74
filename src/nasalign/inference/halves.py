"""Many prompts scored in two halves at once, each by half of the cores.

The matrices of a small model are too small to be split well among cores: two passes at once, each
on one core, take less time than one after the other on both (``benchmarks/serve_load.py``).
"""

import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import torch
from torch import nn
from transformers import PreTrainedModel

from nasalign.inference.prefix import common_beginning
from nasalign.inference.prefix_groups import merged, score_in_groups, tokens_to_run
from nasalign.inference.scoring import Scores
from nasalign.prompts.builder import BinaryPrompt

LEAST_TOKENS = 512
"""Tokens of prompts that are worth two passes."""


class Halves:
    """Scores prompts by a model and a twin, which has the same weights in memory.

    The twin has modules of its own, since a pass keeps things in them for a while. Where no twin
    can be made (on an accelerator, with quantised weights, with one core), one model does all.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.models = [model]
        threads = torch.get_num_threads()
        if threads > 1 and _is_plain(model):
            self.models.append(_twin(model))
        # One that waits has no cost; the number of threads is each thread's own.
        self._pool = ThreadPoolExecutor(
            len(self.models), "nasalign-half", torch.set_num_threads, (threads // 2,)
        )

    def score(self, prompts: Sequence[BinaryPrompt]) -> Scores:
        """Score prompts as ``score_in_groups`` does, in two halves where that is faster."""
        # What all begin with would run in both halves.
        if min(len(self.models), len(prompts)) < 2 or (
            tokens_to_run(prompts) < LEAST_TOKENS + 2 * common_beginning(prompts)
        ):
            return score_in_groups(self.models[0], prompts)
        order = sorted(range(len(prompts)), key=lambda index: prompts[index].token_ids)
        middle = _middle([len(prompts[index].token_ids) for index in order])
        parts = [order[:middle], order[middle:]]
        running = [
            self._pool.submit(score_in_groups, model, [prompts[index] for index in part])
            for model, part in zip(self.models, parts, strict=True)
        ]
        wait(running)  # both, also where one fails: the rows of both are put back afterwards
        found = (one.result() for one in running)
        return merged(zip(parts, found, strict=True), len(prompts))


def _middle(sizes: Sequence[int]) -> int:
    """The number of leading sizes whose sum is nearest to that of the others; at least 1."""
    ends = torch.tensor(sizes).cumsum(dim=0)[:-1]
    return 1 + int((2 * ends - sum(sizes)).abs().argmin())


def _is_plain(model: PreTrainedModel) -> bool:
    """Whether all of a model is on the CPU, and nothing but its own modules runs it."""
    weights = [*model.parameters(), *model.buffers()]
    whole = all(type(one) in (nn.Parameter, torch.Tensor) for one in weights)
    return (
        whole
        and not hasattr(model, "hf_device_map")
        and {"cpu"} == {one.device.type for one in weights}
    )


def _twin(model: PreTrainedModel) -> PreTrainedModel:
    weights = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(one): one for one in weights})
