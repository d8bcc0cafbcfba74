"""The calibration that goes along with an adapter: log odds to probabilities, before and after."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from nasalign.config import Settings

_PROMPT = ("vocabulary", "instruction", "template", "system", "chat")
"""Settings of the prompt; log odds of another prompt are on another scale."""
SAME = 1e-4
"""Largest difference of a probability that counts as none."""


@dataclass(frozen=True)
class PlattScaling:
    """A slope and an offset of log odds."""

    slope: float
    offset: float

    def of(self, odds: Tensor) -> Tensor:
        """Return ``slope * odds + offset``, of the shape of ``odds``."""
        return self.slope * odds + self.offset

    def probability(self, odds: Tensor) -> Tensor:
        """Return the calibrated probability of the positive word, of the shape of ``odds``."""
        return self.of(odds).sigmoid()


@dataclass(frozen=True)
class Calibration:
    """Platt scaling of a model before and after alignment, fitted on held-back questions.

    Attributes:
        before: of the untouched model; None where its log odds do not rank right answers higher.
        after: the same of the aligned model.
        n: number of held-back examples, half of them right answers.
        data: name of the data set that they are of.
        prompt: the settings of the prompt that they were asked with, and ``shots``.
    """

    before: PlattScaling | None
    after: PlattScaling | None
    n: int
    data: str = ""
    prompt: Mapping[str, str | bool | int | None] = field(default_factory=dict)

    def fits(self, settings: Settings, shots: int = 0) -> bool:
        """Whether these settings, with so many examples shown, give the prompt of the fit."""
        return dict(self.prompt) == prompt_facts(settings, shots)


def prompt_facts(settings: Settings, shots: int = 0) -> dict[str, str | bool | int | None]:
    """Return the settings of the wording, and the number of examples shown."""
    return {name: getattr(settings, name) for name in _PROMPT} | {"shots": shots}
