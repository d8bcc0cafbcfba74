"""Conversations with a judge or generator: an endpoint, or the model under study."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from nasalign.progress import Progress

MAX_TOKENS = 512
"""Tokens of an answer at most: a verdict, a wrong answer, or a converted question."""


@dataclass(frozen=True)
class Conversation:
    """One instruction, which may be empty, and one message."""

    system: str
    user: str


class Chat(Protocol):
    """A language model that can be asked."""

    @property
    def name(self) -> str:
        """Its name in results."""

    def complete(
        self, conversations: Sequence[Conversation], progress: Progress | None = None
    ) -> list[str | None]:
        """Return the greedy answer to each conversation, None where it was refused."""
