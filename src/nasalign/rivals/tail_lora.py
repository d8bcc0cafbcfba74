"""Activated LoRA in the tokens that end every yes/no prompt, by which it is activated.

Training runs these tokens alone (``prompt_ends``), a seventh of a prompt. They end prompts for free
answers too, where these are worded as Prompt II, so that these are held as in every rival's loss.
"""

from collections.abc import Sequence
from itertools import chain

from torch import Tensor
from transformers import PreTrainedModel

from nasalign.data.records import BinaryExample
from nasalign.errors import PromptError
from nasalign.head_rows.activations import ActivationMemory
from nasalign.inference.batches import HasTokens
from nasalign.nasa_plus.divergence import Answered, Divergence
from nasalign.rivals.activated_lora import ActivatedChange, activated_fit
from nasalign.rivals.lora import attention_linear
from nasalign.rivals.prompt_ends import PromptEnds, common_end
from nasalign.rivals.rate_search import RateSearch, free_answers_of
from nasalign.rivals.rival import Fitted, Material, Rival


class TailChange(ActivatedChange):
    """A LoRA that acts in the last tokens of prompts, and is trained on passes over these alone.

    Args:
        model: the untouched model.
        seed: of the first weights.
        end: the tokens by which it is activated.
        ends: runs them, of all prompts that are trained on.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        seed: int,
        end: Sequence[int],
        ends: PromptEnds,
    ) -> None:
        super().__init__(model, attention_linear(model), seed, end)
        self._ends = ends

    def logits(self, model: PreTrainedModel, prompts: Sequence[HasTokens]) -> Tensor:
        """Return the logits [B, vocabulary] after prompts whose beginnings are kept."""
        return self._ends.logits(prompts)


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
    search = RateSearch(material, TAIL.name, TAIL.title, holds=False)
    asked = [prompt for prompt, _ in chain.from_iterable(search.pairs)]
    end, model, settings = closing_of(material, asked), material.model, material.settings
    answers = [one for one in free_answers_of(material) if _ends_in(one, end)]
    prompts: list[HasTokens] = [*asked, *answers]
    sizes = [len(end)] * len(asked) + [len(end) + one.own - 1 for one in answers]
    title = "What comes before the end of prompts"
    with material.run.stage(f"{TAIL.name}/beginnings", title, len(prompts)) as done:
        ends = PromptEnds(model, prompts, sizes, done)
    if answers:

        def passes(places: Sequence[int], last: Sequence[int]) -> Tensor:
            return ends.logits([answers[place] for place in places], last)

        search.free = Divergence(model, answers, 0, None, ActivationMemory(), passes)
    return activated_fit(material, search, lambda: TailChange(model, settings.seed, end, ends))


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
    asked_for=True,
)
