"""How far a model has moved from the untouched one in what it answers freely (nasa+).

What the untouched model says next is kept at every token of its free answers under Prompt II, over
the whole vocabulary. The divergence from it, KL(untouched || changed), is a term of the loss: a
model that is tuned on yes and no alone may forget how to say anything else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from nasalign.head_rows.activations import ActivationMemory
from nasalign.head_rows.replay import Replay
from nasalign.inference.batches import in_batches
from nasalign.models.memory import out_of_memory
from nasalign.nasa.knowledge import Parametric
from nasalign.prompts.builder import PromptBuilder

DOING = "noting what it answers freely"


@dataclass(frozen=True)
class Answered:
    """Prompt II with an answer.

    Attributes:
        token_ids: of both.
        own: number of the answer's tokens, and one: where it begins, and after each of them.
    """

    token_ids: tuple[int, ...]
    own: int

    @property
    def first_row(self) -> int:
        """Index of the token after which the answer begins."""
        return len(self.token_ids) - self.own


def answered(builder: PromptBuilder, answers: Sequence[Parametric]) -> list[Answered]:
    """Returns questions under Prompt II with what the model answered to them."""
    prompts = []
    for one in answers:
        whole = builder.parametric(one.question, one.prediction)
        prompts.append(Answered(whole, len(whole) - len(builder.parametric(one.question)) + 1))
    return prompts


class Divergence:
    """KL(untouched || changed) of the next token within some answers.

    Args:
        model: the untouched model, which is changed afterwards.
        answers: N answers.
        layer: below it nothing will be changed.
        batch_size: answers a batch while what it says is computed; by tokens unless given.
        memory: where what enters the layer, and what the model says, is kept.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        answers: Sequence[Answered],
        layer: int,
        batch_size: int | None,
        memory: ActivationMemory,
    ) -> None:
        self.model, self.answers, self.layer = model, answers, layer
        self.replay = Replay(model, answers, batch_size, memory)
        self.replay.prepare(layer)
        ends = accumulate((one.own for one in answers), initial=0)
        self.spans = list(pairwise(ends))  # an answer's rows in what is kept
        embedding = model.get_output_embeddings()
        dtype = torch.promote_types(model.dtype, torch.float32)
        shape = self.spans[-1][1], embedding.out_features
        kept = memory.keep(*shape, dtype, embedding.weight.device)
        if kept is None:
            raise out_of_memory(DOING, ways=["--set kl_weight=0, which lets free answers go"])
        self.kept = kept  # [tokens, vocabulary]

        @torch.no_grad()
        def work(places: list[int]) -> None:
            own = [answers[place].own for place in places]
            said = self._log_probabilities(places).split(own)
            for place, rows in zip(places, said, strict=True):
                kept.rows[slice(*self.spans[place])] = rows

        in_batches(model, answers, batch_size, work, doing=DOING)

    def tokens(self, places: Sequence[int]) -> int:
        """Returns the number of tokens that the divergence of some answers is a mean over."""
        return sum(self.answers[place % len(self.answers)].own for place in places)

    def of(self, places: Sequence[int]) -> Tensor:
        """Returns the mean divergence over the tokens of some answers, in nats; a scalar.

        Args:
            places: of the answers; beyond the last one they begin again.
        """
        places = [place % len(self.answers) for place in places]
        after = self._log_probabilities(places)
        return functional.kl_div(after, self.before(places), reduction="batchmean", log_target=True)

    def before(self, places: Sequence[int]) -> Tensor:
        """Returns the untouched model's log probabilities in some answers, [tokens, vocabulary]."""
        device = self.model.get_output_embeddings().weight.device
        return torch.cat(self.kept.on(device, [self.spans[place] for place in places]))

    def _log_probabilities(self, places: Sequence[int]) -> Tensor:
        last = [self.answers[place].own for place in places]
        logits = self.replay.logits(places, self.layer, last=last)
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)
