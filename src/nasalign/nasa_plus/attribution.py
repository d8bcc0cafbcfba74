"""Heads by what their rows can do to the answer, beside where they look (NAS).

The log odds of a prompt are log P(positive word) - log P(negative word). For two prompts that
differ in the answer alone, the right one and a wrong one, the difference of their log odds is what
the model knows and says. A head's attribution is the norm of the gradient of that difference with
respect to its query rows: what moves both answers alike, and so only shifts the threshold, cancels.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nasalign.head_rows.rows import TunableRows, joined
from nasalign.inference.batches import in_batches
from nasalign.inference.forward import answer_logits, over_tokens
from nasalign.models import processes
from nasalign.models.geometry import HeadGeometry
from nasalign.nas.heads import places
from nasalign.progress import Progress
from nasalign.prompts.builder import BinaryPrompt

ONE_OF = 10
"""One head in so many is tuned: a tenth does most of what all of them can (docs/study.md)."""


def most_attributed(norms: Tensor, count: int | None = None) -> list[tuple[int, int]]:
    """Return the layer and head of the highest of attributions [L, H]; a tenth unless counted."""
    known = places(norms)
    ranked = sorted(known, key=lambda place: -float(norms[place]))
    return ranked[: count or max(1, len(known) // ONE_OF)]


def answer_log_odds(logits: Tensor, prompts: Sequence[BinaryPrompt]) -> Tensor:
    """Return log P(positive word) - log P(negative word), [B] (``answer_log_probabilities``)."""
    positive, negative = answer_log_probabilities(logits, prompts).unbind(dim=-1)
    return positive - negative


def answer_log_probabilities(logits: Tensor, prompts: Sequence[BinaryPrompt]) -> Tensor:
    """Return log P of the positive and the negative word, each summed over surface forms.

    Args:
        logits: after B prompts, [B, vocabulary].
        prompts: the B prompts.

    Returns:
        [B, 2], float32 (float64 of such logits); differentiable.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    answers = [prompt.answers for prompt in prompts]
    words = [one.positive for one in answers], [one.negative for one in answers]
    reduce = partial(torch.logsumexp, dim=-1)
    said = torch.stack([over_tokens(logits, tokens, reduce) for tokens in words], dim=-1)  # [B, 2]
    return said - logits.logsumexp(dim=-1, keepdim=True)


def attribution(
    model: PreTrainedModel,
    pairs: Sequence[tuple[BinaryPrompt, BinaryPrompt]],
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Return the attribution of every head, from one backward pass over pairs.

    Args:
        model: left as it was; its parameters must not require gradients.
        pairs: P pairs of prompts, with the right and with a wrong answer.
        batch_size: prompts in a batch; by tokens unless given.
        progress: called after each batch.

    Returns:
        The norm of d(sum of right log odds - sum of wrong log odds) / d(query rows), divided by P,
        [L, H] float64 on the CPU; NaN where a layer has no such head.
    """
    geometry = HeadGeometry.of(model)
    queries = {place: geometry.rows(*place).query for place in geometry.places}
    rows = TunableRows(model, joined(queries.values()))
    prompts = [prompt for pair in pairs for prompt in pair]
    signs = torch.tensor([1.0, -1.0]).repeat(len(pairs))

    def work(indices: list[int]) -> None:
        batch = [prompts[index] for index in indices]
        odds = answer_log_odds(answer_logits(model, batch), batch)
        gradients = torch.autograd.grad(
            (odds * signs[indices].to(odds.device)).sum(), list(rows.parameters.values())
        )
        for parameter, gradient in zip(rows.parameters.values(), gradients, strict=True):
            if parameter.grad is None:
                parameter.grad = gradient
            else:  # in place: were there no memory for a sum, the batch would count twice
                parameter.grad.add_(gradient)

    with rows:
        in_batches(model, prompts, batch_size, work, progress, doing="computing attribution")
    norms = geometry.blank(torch.float64)
    for where, parameter in rows.parameters.items():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        processes.add_up(gradient)
        if gradient.device.type == "mps":  # it has no float64
            gradient = gradient.cpu()
        squares = torch.linalg.vector_norm(gradient, dim=-1, dtype=torch.float64).square().cpu()
        for place, query in queries.items():
            if query.module == where.module and where.start <= query.start < where.stop:
                own = squares[query.start - where.start : query.stop - where.start]
                norms[place] = own.sum().sqrt() / len(pairs)
    return norms
