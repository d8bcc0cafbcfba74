"""The paper, word for word and slow: what the tests compare the fast code with.

Equations, tables and Algorithm 1 are those of "Correcting Negative Bias in Large Language Models
through Negative Attention Score Alignment". Nothing here is shared with `src`.
L layers, H query heads, T tokens, N samples. A head is the pair (layer, query head) from zero.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:  # importing it takes longer than the tests of what needs no model
    from transformers import PreTrainedModel

Head = tuple[int, int]
State = TypeVar("State")
BINS = 10


@contextlib.contextmanager
def softmax_in_float64() -> Iterator[None]:
    """Keep a softmax of float64 scores in float64, for as long as the context lasts.

    Eager attention in transformers asks for a float32 softmax whatever the model's type (all but
    GPT-OSS do), which would leave the attention weights only seven digits.
    """
    original = torch.nn.functional.softmax

    def softmax(
        input: Tensor,
        dim: int | None = None,
        _stacklevel: int = 3,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        if input.dtype == torch.float64:
            dtype = torch.float64
        return original(input, dim=dim, _stacklevel=_stacklevel, dtype=dtype)

    torch.nn.functional.softmax = softmax
    try:
        yield
    finally:
        torch.nn.functional.softmax = original


def as_precise(model: PreTrainedModel) -> contextlib.AbstractContextManager[None]:
    """The context in which a pass rounds no more than `attention_weights` does.

    Eager attention rounds its weights to float32 between the layers, and the router of Qwen 3 MoE
    its probabilities; SDPA does not.
    """
    rounds = model.config._attn_implementation == "eager" or model.config.model_type == "qwen3_moe"
    return softmax_in_float64() if rounds else contextlib.nullcontext()


@torch.no_grad()
def attention_weights(model: PreTrainedModel, input_ids: Tensor) -> list[Tensor]:
    """A of Eq. 1 of one unpadded sample [T]: float64 [H, T, T] of each layer, rows being queries.

    The model, in float64 and in evaluation mode, runs with eager attention and has its own
    implementation back afterwards.
    """
    if model.dtype != torch.float64 or model.training or input_ids.dim() != 1:
        raise ValueError(f"need float64, eval mode and [T]: {model.dtype}, {input_ids.shape}")
    implementation = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        with softmax_in_float64():
            output = model(input_ids[None], output_attentions=True, use_cache=False)
    finally:
        model.set_attn_implementation(implementation)
    assert all(layer.dtype == torch.float64 for layer in output.attentions)
    return [layer[0] for layer in output.attentions]


def nas(weights: Tensor, yes: int, no: int, first_row: int) -> float:
    """Eq. 1 for one head, of its attention weights A, float64 [T, T].

    The sum is over the rows from `first_row` to the last: L_I, the first token after the
    instruction, or L_I - 1, its last token, which is row i = L_I where rows are counted from 1.
    A row in which either weight is zero, because the token is masked, adds nothing.
    """
    total = 0.0
    for row in range(first_row, len(weights)):
        to_yes, to_no = float(weights[row, yes]), float(weights[row, no])
        if to_yes > 0 and to_no > 0:
            total += (to_yes + to_no) * math.log(to_no / to_yes)
    return total


def nas_of_sample(
    model: PreTrainedModel, input_ids: Tensor, yes: int, no: int, first_row: int
) -> Tensor:
    """Eq. 1 for every head of a model on one unpadded sample, float64 [L, H]."""
    layers = attention_weights(model, input_ids)
    values = [[nas(head, yes, no, first_row) for head in layer] for layer in layers]
    return torch.tensor(values, dtype=torch.float64)


def single_head_nas(values: Tensor) -> Tensor:
    """NAS(X, l, h) of section 3.2.1: the mean over samples, [N, L, H] -> [L, H]."""
    total = torch.zeros_like(values[0])
    for sample in values:
        total = total + sample
    return total / len(values)


def model_nas(values: Tensor) -> float:
    """NAS(X, L, H) of section 3.2.1: the sum of single head NAS over heads, [N, L, H] -> float."""
    return sum(float(value) for layer in single_head_nas(values) for value in layer)


def _top(values: Tensor, heads: list[Head], count: int) -> list[Head]:
    """The heads of highest value, falling; of equal ones the lower (layer, head) comes first."""
    return sorted(heads, key=lambda head: (-float(values[head]), head))[:count]


def select_heads(values: Tensor, k: int, n: int, consistency: float = 0.9) -> list[Head]:
    """Eq. 2-4: the negative attention heads of samples [N, L, H], by falling single head NAS.

    The list of a sample has `k` heads; at most `n` are returned, each in a share `consistency` of
    the lists.
    """
    samples, layers, per_layer = values.shape
    heads = [(layer, head) for layer in range(layers) for head in range(per_layer)]
    lists = [_top(sample, heads, k) for sample in values]  # Eq. 2
    needed = Fraction(str(consistency)) * samples  # a fraction, as 0.9 has no exact float
    consistent = [head for head in heads if sum(head in top for top in lists) >= needed]  # Eq. 3
    return _top(single_head_nas(values), consistent, n)  # Eq. 4


def tau(true_positives: Tensor) -> float:
    """Eq. 5: the smallest model NAS of a true positive, [N, L, H]; minus infinity for N = 0."""
    return min((model_nas(sample[None]) for sample in true_positives), default=-math.inf)


def algorithm_1(
    heads: Sequence[Head],
    tune_epoch: Callable[[Head], None],
    nas_head: Callable[[Head], float],
    nas_model: Callable[[], float],
    save: Callable[[], State],
    restore: Callable[[State], None],
    tau: float,
    rho: float,
    max_epochs: int,
) -> list[tuple]:
    """Algorithm 1 of Appendix F, one statement a line and numbered as there.

    The indentation of lines 14-17, lost in the text, is that of section 4.3: cancellation and
    halting come once per head, after its epochs. Line 16 compares the beta' of line 10, which is
    that of the update even if line 15 has just cancelled it.

    `heads` is P, by falling single head NAS, `nas_head` and `nas_model` are those of V at present,
    and `max_epochs` is T, at least 1.

    Returns:
        What happened, in order: ("epoch", head, epoch, alpha', beta'), ("stopped", head, epoch),
        ("cancelled", head), ("halted", head).
    """
    events: list[tuple] = []
    for head in heads:  # 1
        initial = save()  # 2
        alpha_initial = nas_head(head)  # 3
        beta_initial = nas_model()  # 4
        alpha = beta = math.inf  # 5
        for epoch in range(1, max_epochs + 1):  # 6
            tune_epoch(head)  # 7, 8
            alpha_new = nas_head(head)  # 9
            beta_new = nas_model()  # 10
            events.append(("epoch", head, epoch, alpha_new, beta_new))
            if alpha_new > alpha or alpha_new < rho or beta_new > beta:  # 11
                events.append(("stopped", head, epoch))
                break  # 12
            alpha, beta = alpha_new, beta_new  # 13
        if alpha_new > alpha_initial or beta_new > beta_initial:  # 14
            restore(initial)  # 15
            events.append(("cancelled", head))
        if beta_new < tau:  # 16
            events.append(("halted", head))
            break  # 17
    return events  # 18


def evaluate(
    verdicts: Sequence[str], labels: Sequence[bool], confidences: Sequence[float]
) -> dict[str, float]:
    """The scores of Tables 3, 4 and 6 with Yes as the positive class; 0/0 counts as 0.

    A verdict is "positive", "negative" or "invalid", and its confidence the probability of the
    answer given. Accuracy is over all answers, an invalid one being wrong, as is `invalid_rate`;
    `precision`, `recall`, `f1` and `ece` are over the valid ones.
    """
    answers = list(zip(verdicts, labels, confidences, strict=True))
    valid = [answer for answer in answers if answer[0] != "invalid"]
    hits = [(verdict == "positive") == label for verdict, label, _ in valid]
    true_positives = sum(verdict == "positive" and label for verdict, label, _ in valid)
    precision = _ratio(true_positives, sum(verdict == "positive" for verdict, _, _ in valid))
    recall = _ratio(true_positives, sum(label for _, label, _ in valid))
    return {
        "accuracy": _ratio(sum(hits), len(answers)),
        "precision": precision,
        "recall": recall,
        "f1": _ratio(2 * precision * recall, precision + recall),
        "invalid_rate": _ratio(len(answers) - len(valid), len(answers)),
        "ece": expected_calibration_error([confidence for _, _, confidence in valid], hits),
    }


def expected_calibration_error(confidences: Sequence[float], hits: Sequence[bool]) -> float:
    """ECE (Table 6): bins of equal width, bin b holding b/10 <= confidence < (b + 1)/10."""
    error = 0.0
    for bin in range(BINS):
        low, high = bin / BINS, (bin + 1) / BINS
        members = [
            (confidence, hit)
            for confidence, hit in zip(confidences, hits, strict=True)
            if low <= confidence < high or (confidence >= 1 and bin == BINS - 1)
        ]
        gap = sum(hit for _, hit in members) - sum(confidence for confidence, _ in members)
        error += abs(gap) / len(confidences) if members else 0.0
    return error


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else 0.0
