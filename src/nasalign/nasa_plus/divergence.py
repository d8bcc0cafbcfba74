"""How far a model has moved from the untouched one in what it answers freely (nasa+).

What the untouched model says next is kept at every token of its free answers under Prompt II, over
the whole vocabulary. The divergence from it, KL(untouched || changed), is a term of the loss: a
model that is tuned on yes and no alone may forget how to say anything else.
"""

from collections.abc import Callable, Sequence
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

Passes = Callable[[Sequence[int], Sequence[int]], Tensor]
DOING = "noting what it answers freely"


@dataclass(frozen=True)
class Answered:
    """Prompt II with an answer.

    Attributes:
        token_ids: of prompt and answer.
        own: number of positions of which the next token is compared: before the answer, and after
            each of its tokens.
    """

    token_ids: tuple[int, ...]
    own: int

    @property
    def first_row(self) -> int:
        """Index of the last token before the answer."""
        return len(self.token_ids) - self.own


def answered(builder: PromptBuilder, answers: Sequence[Parametric]) -> list[Answered]:
    """Return questions under Prompt II with the model's answers."""
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
        layer: the lowest layer that will be changed.
        batch_size: answers in a batch of the untouched model; by tokens unless given.
        memory: holds the activations and the log probabilities of the untouched model.
        passes: returns the logits in some answers, given their places and the number of trailing
            positions of each, as [sum of these, vocabulary]; by replay unless given.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        answers: Sequence[Answered],
        layer: int,
        batch_size: int | None,
        memory: ActivationMemory,
        passes: Passes | None = None,
    ) -> None:
        self.model, self.answers = model, answers
        if passes is None:
            replay = Replay(model, answers, batch_size, memory, pack=True)
            replay.prepare(layer)
            passes = lambda places, last: replay.logits(places, layer, last=last)  # noqa: E731
        self._passes = passes
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
        """Return the number of positions that ``of`` takes the mean over."""
        return sum(self.answers[place % len(self.answers)].own for place in places)

    def of(self, places: Sequence[int]) -> Tensor:
        """Return the mean divergence over some answers, in nats; indices beyond N start again."""
        places = [place % len(self.answers) for place in places]
        after = self._log_probabilities(places)
        return functional.kl_div(after, self.before(places), reduction="batchmean", log_target=True)

    def before(self, places: Sequence[int]) -> Tensor:
        """Return the untouched model's log probabilities in some answers, [tokens, vocabulary]."""
        device = self.model.get_output_embeddings().weight.device
        return torch.cat(self.kept.on(device, [self.spans[place] for place in places]))

    def _log_probabilities(self, places: Sequence[int]) -> Tensor:
        logits = self._passes(places, [self.answers[place].own for place in places])
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)
