"""Activated LoRA in the tokens that end every yes/no prompt, by which it is activated.

Training runs these tokens alone (``prompt_ends``), a seventh of a prompt. They end prompts for free
answers too, where these are worded as Prompt II. So the loss has a term that holds right free
answers of the untouched model where they are, that of nasa+ (``divergence``).
"""

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nasalign.data.records import BinaryExample
from nasalign.errors import PromptError
from nasalign.head_rows.activations import ActivationMemory
from nasalign.inference.batches import HasTokens
from nasalign.nasa_plus.divergence import Answered, Divergence, answered
from nasalign.nasa_plus.joint_run import right_free_answers
from nasalign.rivals.activated_lora import ActivatedChange, activated_fit, attention_linear
from nasalign.rivals.change_training import PAIRS_A_STEP
from nasalign.rivals.prompt_ends import PromptEnds, common_end
from nasalign.rivals.rate_search import RateSearch
from nasalign.rivals.rival import Fitted, Material, Rival


class TailChange(ActivatedChange):
    """A LoRA that acts in the last tokens of prompts, and is trained on passes over these alone.

    Args:
        model: the untouched model.
        seed: of the first weights.
        end: the tokens by which it is activated.
        ends: runs them, of all prompts that are trained on.
        free: how far free answers move, and the weight of that in the loss; None leaves them free.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        seed: int,
        end: Sequence[int],
        ends: PromptEnds,
        free: tuple[Divergence, float] | None,
    ) -> None:
        super().__init__(model, attention_linear(model), seed, end)
        self._ends, self._free = ends, free
        self._drawn: list[int] = []

    def logits(self, model: PreTrainedModel, prompts: Sequence[HasTokens]) -> Tensor:
        """Return the logits [B, vocabulary] after prompts whose beginnings are kept."""
        return self._ends.logits(prompts)

    def draw(self, generator: torch.Generator) -> None:
        """Draw the free answers of a step."""
        if self._free:
            count = len(self._free[0].answers)
            self._drawn = torch.randperm(count, generator=generator)[:PAIRS_A_STEP].tolist()

    def penalty(self) -> Tensor | None:
        """Return the weighted divergence from the untouched model in free answers."""
        if not self._free:
            return None
        divergence, weight = self._free
        return weight * divergence.of(self._drawn)


def closing_of(material: Material, prompts: Sequence[HasTokens]) -> tuple[int, ...]:
    """Return the tokens that end all yes/no prompts, whatever their question ends in.

    Raises:
        PromptError: there are none.
    """
    asked = list(prompts)
    if not material.settings.template:  # so that no question mark is among them
        asked.append(material.builder().binary(BinaryExample("It is so.", True)))
    found = common_end(asked)
    if not found:
        raise PromptError(
            "The yes/no prompts end in no tokens of their own, by which a LoRA could be activated; "
            "let the prompt end in a text after the question."
        )
    return found


def _fit(material: Material) -> Fitted:
    search = RateSearch(material, TAIL.name, TAIL.title)
    asked = [prompt for prompt, _ in chain.from_iterable(search.pairs)]
    end, model, settings = closing_of(material, asked), material.model, material.settings
    right = right_free_answers(material.session, material.probing)
    answers = [one for one in answered(material.builder(), right) if _ends_in(one, end)]
    prompts: list[HasTokens] = [*asked, *answers]
    sizes = [len(end)] * len(asked) + [len(end) + one.own - 1 for one in answers]
    title = "What comes before the end of prompts"
    with material.run.stage(f"{TAIL.name}/beginnings", title, len(prompts)) as done:
        ends = PromptEnds(model, prompts, sizes, done)
    free = None
    if answers:

        def passes(places: Sequence[int], last: Sequence[int]) -> Tensor:
            return ends.logits([answers[place] for place in places], last)

        memory = ActivationMemory(None)
        free = Divergence(model, answers, 0, None, memory, passes), settings.kl_weight
    return activated_fit(
        material, search, lambda: TailChange(model, settings.seed, end, ends, free)
    )


def _ends_in(answer: Answered, end: Sequence[int]) -> bool:
    """Whether the prompt of a free answer ends in these tokens; else no change acts in it."""
    stop = answer.first_row + 1
    return answer.token_ids[stop - len(end) : stop] == tuple(end)


TAIL = Rival(
    "alora-tail",
    "LoRA on attention, in the tokens that end the prompt",
    "an adapter that is activated by the end of the prompt",
    False,
    _fit,
)
