"""Several processes that share one job, as ``accelerate launch`` starts them.

Each has the whole model. Prompts are dealt out by their place in the list, and what each process
finds is added up, so that all hold the same figures and decide alike; the first one writes. With
one process nothing here does anything.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, reduce
from torch import Tensor

from nasalign.data.conversation import Chat, Conversation
from nasalign.progress import Progress

_ALONE = ContextVar("alone", default=False)


@lru_cache(maxsize=1)
def _state() -> PartialState | None:
    """The state of this process among several, or None if it is alone; joins them if need be."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    return PartialState(cpu=not torch.cuda.is_available())


def count() -> int:
    """Returns the number of processes."""
    state = _state()
    return state.num_processes if state else 1


def is_first() -> bool:
    """Says whether this is the process that writes."""
    state = _state()
    return state is None or state.is_main_process


def own_device() -> torch.device | None:
    """Returns the device that was dealt to this process, or None if it is alone."""
    state = _state()
    return state.device if state else None


@contextmanager
def alone() -> Iterator[None]:
    """Has each process do all of what follows for itself, since it is not to be shared."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def shares() -> int:
    """Returns the number of processes that prompts are dealt out to."""
    return 1 if _ALONE.get() else count()


def mine(place: int) -> bool:
    """Says whether the prompt at a place is for this process."""
    state = _state()
    return state is None or place % shares() == state.process_index % shares()


def add_up(*tensors: Tensor) -> None:
    """Adds tensors up over the processes, in place; all hold the same sum then."""
    state = _state()
    if state is None or _ALONE.get():
        return
    for tensor in tensors:
        tensor.copy_(reduce(tensor.detach().to(state.device), reduction="sum"))


@torch.no_grad()
def as_the_first(*tensors: Tensor) -> None:
    """Makes tensors, in place, what they are in the first process."""
    for tensor in tensors:
        if not is_first():
            tensor.zero_()
        add_up(tensor)


def put_together(texts: list[str]) -> list[str]:
    """Returns texts of which each process has made those at its own places."""
    state = _state()
    if state is None:
        return texts
    parts = gather_object([{place: text for place, text in enumerate(texts) if mine(place)}])
    whole = {place: text for part in parts for place, text in part.items()}
    return [whole[place] for place in range(len(texts))]


class FirstProcessChat:
    """A ``Chat`` that only the first process asks; the others are told its answers."""

    def __init__(self, chat: Chat) -> None:
        self._chat, self.name = chat, chat.name

    def complete(
        self, conversations: Sequence[Conversation], progress: Progress | None = None
    ) -> list[str | None]:
        """Returns the answers, in every process."""
        answers: list[Any] = [None]
        if is_first():
            answers = [self._chat.complete(conversations, progress)]
        return list(broadcast_object_list(answers)[0])
