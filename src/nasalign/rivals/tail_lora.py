"""Activated LoRA in the tokens that end every yes/no prompt, by which it is activated.

Training runs these tokens alone (``prompt_ends``), a seventh of a prompt. They end prompts for free
answers too, where the prompt is worded as Prompt II: these then run with the change.
"""

from collections.abc import Sequence
from itertools import chain

from torch import Tensor
from transformers import PreTrainedModel

from nasalign.data.records import BinaryExample
from nasalign.errors import PromptError
from nasalign.inference.batches import HasTokens
from nasalign.rivals.activated_lora import ActivatedChange, activated_fit, attention_linear
from nasalign.rivals.prompt_ends import PromptEnds, common_end
from nasalign.rivals.rate_search import RateSearch
from nasalign.rivals.rival import Fitted, Material, Rival


class TailChange(ActivatedChange):
    """A LoRA that acts in the last tokens of prompts, and is trained on passes over these alone."""

    def __init__(self, model: PreTrainedModel, seed: int, ends: PromptEnds, end: Sequence[int]):
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
    search = RateSearch(material, TAIL.name, TAIL.title)
    prompts = [prompt for prompt, _ in chain.from_iterable(search.pairs)]
    end, model = closing_of(material, prompts), material.model
    title = "What comes before the end of prompts"
    with material.run.stage(f"{TAIL.name}/beginnings", title, len(prompts)) as done:
        ends = PromptEnds(model, prompts, len(end), done)
    seed = material.settings.seed
    return activated_fit(material, search, lambda: TailChange(model, seed, ends, end))


TAIL = Rival(
    "alora-tail",
    "LoRA on attention, in the tokens that end the prompt",
    "an adapter that is activated by the end of the prompt",
    False,
    _fit,
)
