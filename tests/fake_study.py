"""A study whose measurements are made up, for what tables and figures make of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from nasalign.config import Settings
from nasalign.data.conversation import Chat, Conversation
from nasalign.data.records import BinaryExample
from nasalign.progress import Progress
from nasalign.reproduction.endpoint_model import endpoint_verdicts
from nasalign.reproduction.paper_sets import PROBING, PaperSet

SETS = ("strategyqa", "musique", "gsm8k-rephrased", "math-rephrased", "ar-lsat")
TOKENS = ["Yes", "No", ".", "Is", "it", "?"]
FIRST_ROW = 3


@dataclass
class Says:
    """A chat that says the same few things in turn, and keeps what it was asked."""

    answers: Sequence[str | None]
    asked: list[Conversation] = field(default_factory=list)
    name: str = "openai:fake"

    def complete(
        self, conversations: Sequence[Conversation], progress: Progress | None = None
    ) -> list[str | None]:
        self.asked += conversations
        return [self.answers[place % len(self.answers)] for place in range(len(conversations))]


@dataclass
class FakeStudy:
    """What a study has that tables and figures ask for.

    Attributes:
        name: of the model.
        settings: of the measurements.
        kept: heads whose update was kept.
        attention_to_no: highest attention of the shown heads to No, by form of the model.
        rows_by_set: rows of the evaluation of the untouched model.
        chat: what the endpoint answers with.
    """

    name: str
    settings: Settings = field(default_factory=lambda: Settings(bootstrap_samples=50))
    kept: Sequence[tuple[int, int]] = ((4, 2), (1, 0))
    attention_to_no: dict[str, float] = field(default_factory=dict)
    rows_by_set: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    chat: Chat | None = None
    shift: float = 0.0
    sets: dict[str, Any] = field(
        default_factory=lambda: {name: PaperSet(name, name) for name in (*SETS, PROBING)}
    )

    def metrics(self, name: str, form: str = "untouched", wording: str = "plain") -> dict[str, Any]:
        place = SETS.index(name)
        figures = {"precision": 0.9 - place / 10 - self.shift, "recall": 0.3 + self.shift}
        ends = {value: (figure - 0.08, figure + 0.06) for value, figure in figures.items()}
        return figures | {"intervals": ends, "n": 40 + place, "invalid_rate": 0.05}

    def asked_of(self, name: str) -> Any:
        examples = [BinaryExample(f"{name} {place}", place % 2 == 0) for place in range(4)]
        return SimpleNamespace(examples=examples, tasks="yes/no questions", dropped={})

    def study_sample(self, name: str) -> list[int]:
        return list(range(len(self.rows_by_set[name])))

    def endpoint_evaluation(self, name: str, who: str) -> Any:
        assert self.chat, "an endpoint was asked that is not there"
        return endpoint_verdicts(self.chat, self.asked_of(name).examples)

    def evaluation(self, name: str, form: str = "untouched", wording: str = "plain") -> Any:
        return SimpleNamespace(rows=lambda: self.rows_by_set[name])

    def nas(self, name: str) -> Tensor:
        return torch.tensor([row["heads"] for row in self.rows_by_set[name]])

    def rows(self, name: str, form: str = "untouched") -> list[dict[str, Any]]:
        return self.rows_by_set[name]

    def knowledge(self, name: str, form: str = "untouched") -> list[dict[str, Any]]:
        return [{"cut": False} for _ in self.rows_by_set[name]]

    @property
    def store(self) -> Any:
        return SimpleNamespace(sets=self.sets)

    @property
    def forms(self) -> Any:
        return self

    def notes_on_data(self, names: Sequence[str]) -> list[str]:
        return []

    def tuning(self, form: str) -> dict[str, Any]:
        return {"kept": [list(one) for one in self.kept], "heads": [[4, 2], [3, 3], [1, 0]]}

    def attention(self, name: str, form: str, heads: Sequence[tuple[int, int]]) -> dict[str, Any]:
        high = self.attention_to_no.get(form, 0.5)
        return {
            "tokens": TOKENS,
            "first_row": FIRST_ROW,
            "heads": [
                {"layer": layer, "head": head, "nas": 1.0}
                | {"Yes": [0.1, 0.05, 0.02], "No": [high, high / 2, 0.0]}
                for layer, head in heads
            ],
        }
