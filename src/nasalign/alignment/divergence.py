"""How far a model has moved from the untouched one in what it answers freely (nasa+).

The untouched model's free answers under Prompt II are cut off somewhere, and what it would say next
is kept, over the whole vocabulary. The divergence from it, KL(untouched || changed), is a term of
the loss: a model that is tuned on yes and no alone may forget how to say anything else.
"""

import random
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from nasalign.alignment.activations import ActivationMemory
from nasalign.alignment.knowledge import Parametric
from nasalign.alignment.replay import Replay
from nasalign.data.prompts import PromptBuilder
from nasalign.nas.batches import in_batches
from nasalign.nas.generation import TokenIds


def beginnings(builder: PromptBuilder, answers: Sequence[Parametric], seed: int) -> list[TokenIds]:
    """Returns Prompt II of each question with a beginning of the model's answer, maybe none of it.

    Args:
        builder: of the prompts.
        answers: N free answers.
        seed: where each is cut off.
    """
    rng = random.Random(f"{seed}/beginnings")
    prompts = []
    for one in answers:
        asked = builder.parametric(one.question)
        answered = builder.parametric(one.question, one.prediction)
        end = rng.randint(len(asked), max(len(asked), len(answered)))
        prompts.append(TokenIds(answered[:end]))
    return prompts


class Divergence:
    """KL(untouched || changed) of the next token after some prompts.

    Args:
        model: the untouched model, which is changed afterwards.
        prompts: N prompts.
        layer: below it nothing will be changed.
        batch_size: prompts a batch while what it says is computed; by tokens unless given.
        memory: where what enters the layer is kept.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[TokenIds],
        layer: int,
        batch_size: int | None,
        memory: ActivationMemory,
    ) -> None:
        self.layer = layer
        self.replay = Replay(model, prompts, batch_size, memory)
        self.replay.prepare(layer)
        self.before: list[Tensor] = [torch.empty(0)] * len(prompts)  # each [vocabulary], on the CPU

        @torch.no_grad()
        def work(places: list[int]) -> None:
            said = self._log_probabilities(places).cpu()
            for place, row in zip(places, said, strict=True):
                self.before[place] = row

        in_batches(model, prompts, batch_size, work)

    def of(self, places: Sequence[int]) -> Tensor:
        """Returns the mean divergence after the prompts at some places, in nats; a scalar."""
        after = self._log_probabilities(places)
        before = torch.stack([self.before[place] for place in places]).to(after.device)
        return functional.kl_div(after, before, reduction="batchmean", log_target=True)

    def _log_probabilities(self, places: Sequence[int]) -> Tensor:
        logits = self.replay.logits(places, self.layer)
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)
