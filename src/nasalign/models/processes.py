"""Several processes that share one job, as ``accelerate launch`` starts them.

Each has the whole model. Prompt i belongs to process i modulo their number, and results are summed
over the processes, so that all hold the same figures and take the same decisions; the first one
writes. With one process, nothing here does anything.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, reduce
from torch import Tensor

from nasalign.data.conversation import Chat, Conversation
from nasalign.progress import Progress

T = TypeVar("T")

_ALONE = ContextVar("alone", default=False)


@lru_cache(maxsize=1)
def _state() -> PartialState | None:
    """The state of this process among several, or None if there is only one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    return PartialState(cpu=not torch.cuda.is_available())


def count() -> int:
    """Return the number of processes."""
    state = _state()
    return state.num_processes if state else 1


def is_first() -> bool:
    """Whether this is the process that writes."""
    state = _state()
    return state is None or state.is_main_process


def own_device() -> torch.device | None:
    """Return the device of this process among several, or None if there is only one."""
    state = _state()
    return state.device if state else None


@contextmanager
def alone() -> Iterator[None]:
    """Let each process do all of the work inside, so that nothing is shared or summed.

    nasa+ tunes in it: a batch is small, and its loss has a term over the whole batch, which the
    parts of several processes do not add up to.
    """
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def shares() -> int:
    """Return the number of processes that share the prompts: 1 inside of ``alone``."""
    return 1 if _ALONE.get() else count()


def mine(place: int) -> bool:
    """Whether the prompt at an index belongs to this process."""
    state = _state()
    return state is None or place % shares() == state.process_index % shares()


def agreed(value: T) -> T:
    """Return the value of the first process in all of them, which wait for it."""
    alone = _state() is None or _ALONE.get()
    return value if alone else broadcast_object_list([value])[0]


def add_up(*tensors: Tensor) -> None:
    """Sum tensors over the processes, in place."""
    state = _state()
    if state is None or _ALONE.get():
        return
    for tensor in tensors:
        tensor.copy_(reduce(tensor.detach().to(state.device), reduction="sum"))


@torch.no_grad()
def as_the_first(*tensors: Tensor) -> None:
    """Copy tensors of the first process into those of the others, in place."""
    for tensor in tensors:
        if not is_first():
            tensor.zero_()
        add_up(tensor)


def put_together(texts: list[str]) -> list[str]:
    """Return all texts, where each process has those at its own indices."""
    if _state() is None or _ALONE.get():
        return texts
    parts = gather_object([{place: text for place, text in enumerate(texts) if mine(place)}])
    whole = {place: text for part in parts for place, text in part.items()}
    return [whole[place] for place in range(len(texts))]


class FirstProcessChat:
    """A ``Chat`` that only the first process calls; the others receive its answers."""

    def __init__(self, chat: Chat) -> None:
        self._chat, self.name = chat, chat.name

    def complete(
        self, conversations: Sequence[Conversation], progress: Progress | None = None
    ) -> list[str | None]:
        """Return the answers, in every process."""
        answers: list[Any] = [None]
        if is_first():
            answers = [self._chat.complete(conversations, progress)]
        return list(broadcast_object_list(answers)[0])
