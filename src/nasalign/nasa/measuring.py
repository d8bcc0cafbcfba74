"""Scoring what tuning watches: V, and the balance set, whose share of Yes halts tuning."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nasalign.config import Settings
from nasalign.head_rows.activations import ActivationMemory
from nasalign.head_rows.replay import Replay
from nasalign.inference.scoring import Scores, score_prompts
from nasalign.nasa.direction import wilson
from nasalign.progress import Progress
from nasalign.prompts.builder import BinaryPrompt

SURE_AFTER = 16
"""Prompts of the balance set whose share of Yes may suffice: at most 4 or at least 12 of them."""


class Watched:
    """V and the balance set, which are scored from the layer on that is tuned.

    Args:
        model: the model.
        validation: prompts of V.
        balance: prompts whose share of Yes is measured in place of that of V, in an order of which
            each beginning is balanced; or none.
        settings: batch size and ``halting_share``.
        memory: where the inputs of layers are stored.

    Attributes:
        replays: of V, and of the two parts of the balance set.
        count: number of all prompts.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        validation: Sequence[BinaryPrompt],
        balance: Sequence[BinaryPrompt],
        settings: Settings,
        memory: ActivationMemory,
    ) -> None:
        self.model, self.settings = model, settings
        parts = [validation, balance[:SURE_AFTER], balance[SURE_AFTER:]]
        self.parts = [part for part in parts if part]
        # One for each part: several processes share the prompts of a list by their places in it.
        self.replays = [Replay(model, part, settings.batch_size, memory) for part in self.parts]
        self.count = len(validation) + len(balance)

    def measured(self, layer: int, progress: Progress | None) -> tuple[Tensor, float]:
        """Return the NAS of V, [N, L, H], and the share of Yes.

        Of the balance set, only the first part is scored where this tells on which side of
        ``halting_share`` its share lies.
        """
        scores = self._scored(0, layer, progress)
        said = scores.verdicts
        if len(self.parts) > 1:
            said = self._scored(1, layer, progress, record=False).verdicts
        if len(self.parts) > 2:
            low, high = wilson(said.count("positive"), len(said))
            if low <= self.settings.halting_share <= high:
                said = said + self._scored(2, layer, progress, record=False).verdicts
            elif progress:
                progress(len(self.parts[2]))
        return scores.nas, said.count("positive") / len(said)

    def log_probabilities(self, layer: int, progress: Progress | None) -> Tensor:
        """Return the mean log probability of the taught answer and of the other on V, [2]."""
        scores = self._scored(0, layer, progress, record=False)
        both = torch.stack([scores.p_positive, scores.p_negative]).double()
        return both.clamp_min(1e-30).log().mean(dim=1)

    def _scored(
        self, part: int, layer: int, progress: Progress | None, record: bool = True
    ) -> Scores:
        replay = self.replays[part]
        return score_prompts(
            self.model,
            self.parts[part],
            batch_size=self.settings.batch_size,
            record=record,
            progress=progress,
            logits_of=lambda places, recorder: replay.logits(places, layer, recorder),
        )
