"""Activated adapters: a change that acts from a sequence of tokens on, and nowhere before.

K. Greenewald et al., "Activated LoRA: Fine-tuned LLMs for Intrinsics", 2025. The sequence is what
every yes/no prompt begins with: a prompt without it, such as one for a free answer, is answered by
the untouched model to the bit. PEFT's ``alora_invocation_tokens`` has this rule, and llama.cpp and
vLLM serve it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nasalign.adapters.adapter import Adapter, load_adapter
from nasalign.adapters.adapter_checks import Changes
from nasalign.adapters.adapter_file import peft_form, write_peft
from nasalign.adapters.scaling import SAME
from nasalign.data.records import Question
from nasalign.errors import PromptError
from nasalign.inference.batches import HasTokens
from nasalign.inference.forward import answer_logits
from nasalign.inference.generation import TokenIds
from nasalign.inference.prefix import common_beginning, prefix_cache, shared_prefix
from nasalign.nasa_plus.attribution import answer_log_probabilities
from nasalign.prompts.builder import BinaryPrompt, PromptBuilder


@dataclass(frozen=True)
class Activation:
    """By which tokens an adapter is activated, and what it gives compared to one that always acts.

    Attributes:
        tokens: the sequence from whose beginning on it acts.
        text: the same as text.
        prompts: number of yes/no prompts that were tried.
        difference: largest difference of P(Yes) / (P(Yes) + P(No)) over these prompts.
        other_verdicts: number of these prompts with another verdict.
    """

    tokens: tuple[int, ...]
    text: str
    prompts: int
    difference: float
    other_verdicts: int

    @property
    def sentence(self) -> str:
        """Return where it acts, and how near that is to the adapter that acts everywhere."""
        near = (
            "its probabilities are those of the adapter that acts everywhere"
            if self.difference <= SAME
            else f"its probabilities differ by up to {self.difference:.4f} from those of the "
            f"adapter that acts everywhere (other verdicts: {self.other_verdicts})"
        )
        return (
            f"It acts from the tokens of {self.text!r} on, and nowhere in a prompt without them; "
            f"on {self.prompts} yes/no prompts {near}."
        )


def invocation_start(
    builder: PromptBuilder, prompts: Sequence[BinaryPrompt], question: Question
) -> int:
    """Return the position of the first token that a prompt for a free answer does not begin with.

    Args:
        builder: of the prompts.
        prompts: yes/no prompts; all begin with the tokens before that position.
        question: what a free answer is asked for.
    """
    free = TokenIds(builder.parametric(question))
    return common_beginning([free, TokenIds(prompts[0].token_ids)])


def invocation_of(
    builder: PromptBuilder, prompts: Sequence[BinaryPrompt], question: Question
) -> tuple[int, ...]:
    """Return the tokens that begin all yes/no prompts and no prompt for a free answer.

    Args:
        builder: of the prompts.
        prompts: yes/no prompts with several questions and answers.
        question: what a free answer is asked for.

    Raises:
        PromptError: there are none.
    """
    start = invocation_start(builder, prompts, question)
    found = prompts[0].token_ids[start : shared_prefix(prompts)]
    if not found:
        raise PromptError(
            "The yes/no prompts begin with no tokens of their own, by which a LoRA could be "
            "activated; name both answers in front of the question."
        )
    return found


def write_activated(
    folder: Path, changes: Changes, invocation: Sequence[int], base_model: str
) -> None:
    """Write a change as an adapter of PEFT that is activated by a sequence of tokens."""
    tensors, config = peft_form(changes, base_model)
    write_peft(folder, tensors, config | {"alora_invocation_tokens": [*invocation]})


@torch.no_grad()
def activation_of(
    model: PreTrainedModel,
    folder: Path,
    builder: PromptBuilder,
    prompts: Sequence[BinaryPrompt],
    question: Question,
) -> Activation:
    """Return how an adapter of nasalign would be activated, tried on yes/no prompts.

    Args:
        model: the untouched model; it is untouched again afterwards.
        folder: of the adapter.
        builder: of the prompts.
        prompts: as for ``invocation_of``.
        question: as for ``invocation_of``.

    Raises:
        ModelError: the adapter belongs to another model.
        PromptError: nothing can activate it.
    """
    tokens = invocation_of(builder, prompts, question)
    adapter, start = load_adapter(folder, model), invocation_start(builder, prompts, question)
    activated = _odds(activated_logits(model, adapter, prompts, start), prompts)
    with adapter.on(model):
        everywhere = _odds(answer_logits(model, prompts), prompts)
    return Activation(
        tokens,
        builder.tokenizer.decode(tokens).strip(),
        len(prompts),
        float((activated.sigmoid() - everywhere.sigmoid()).abs().max()),
        int(((activated > 0) != (everywhere > 0)).sum()),
    )


def activated_logits(
    model: PreTrainedModel, adapter: Adapter, prompts: Sequence[HasTokens], start: int
) -> Tensor:
    """Return the logits [B, vocabulary] after prompts on which an adapter acts from a token on.

    Args:
        model: the untouched model; it is untouched again afterwards.
        adapter: of the model.
        prompts: B prompts, which share the tokens before ``start``.
        start: position of the first token on which the adapter acts.
    """
    cache = prefix_cache(model, prompts[:1], start) if start else None
    with adapter.on(model):
        return answer_logits(model, prompts, prefix=start, shared=cache)


def _odds(logits: Tensor, prompts: Sequence[BinaryPrompt]) -> Tensor:
    """Log odds of Yes and No after each prompt, [N]."""
    said = answer_log_probabilities(logits, prompts).double().cpu()
    return said[:, 0] - said[:, 1]
