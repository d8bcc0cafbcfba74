"""An attention offset in closed form: nothing is trained, and no label is used.

Each head gets an offset of its attention from the negative word to the positive one
(``nas.offset``), such that the log odds of the two answers are 0 on average over prompts that ask
for right and wrong answers in equal number. One backward pass gives the slope of the mean log odds
m in every head's offset, g; of all offsets that bring m to 0 to first order, those of least norm
are -m g / |g|^2. As m is not linear in them, this is repeated from where it leads, a few times.

It cannot be folded into the weights. The offset moves the score of one position for every later
query by the same amount, while a score is a product of a query and a key that rotary embedding
turns by their distance: no two constant vectors have the same product at every distance, a key's
rows act on every position, and keys are shared by the heads of a group, each of which has another
offset. What would be needed is what the runtime hook adds: a dimension of each head that is not
turned, in which queries hold a constant (a bias), and of the keys those of the two words alone hold
1/2 and -1/2 (rows that read off the residual stream which tokens these are). A checkpoint of the
same architecture has no such dimension to spare, so this is served as a hook.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nasalign.errors import NothingToFixError
from nasalign.inference.batches import in_batches
from nasalign.inference.forward import answer_logits
from nasalign.models import processes
from nasalign.models.geometry import HeadGeometry
from nasalign.nas.offset import attention_offset, words_of
from nasalign.nasa_plus.attribution import answer_log_odds
from nasalign.progress import Progress
from nasalign.prompts.builder import BinaryPrompt
from nasalign.rivals.observed import some_of_each
from nasalign.rivals.rival import Fitted, Material, Rival

EXAMPLES = 120
"""Prompts at most that the mean is over, half of them about right answers."""
STEPS = 4
"""Newton steps at most."""
CLOSE = 0.05
"""Mean log odds that count as 0."""
LARGEST = 16.0
"""Offset of a head at most: it makes one word's weight 9 million times the other's, and where that
does not balance, more would not."""


def balanced(
    model: PreTrainedModel,
    prompts: Sequence[BinaryPrompt],
    chosen: Tensor,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> tuple[Tensor, list[float]]:
    """Returns the offsets that bring the mean log odds nearest to 0, of the steps taken.

    Args:
        model: the model; left as it was. Its parameters must not require gradients.
        prompts: N prompts of one instruction, of right and wrong answers in equal number.
        chosen: heads that may have an offset, bool [L, H].
        batch_size: prompts a batch; by tokens unless given.
        progress: told of each prompt of each step.

    Returns:
        The offsets, [L, H], float32 (float64 of a float64 model), 0 where not chosen; and the mean
        log odds before, and after each step.
    """
    dtype = torch.promote_types(model.dtype, torch.float32)
    offsets = torch.zeros(chosen.shape, dtype=dtype)
    means: list[float] = []
    tried: list[Tensor] = []
    for _ in range(STEPS + 1):
        mean, slope = _mean_and_slope(model, prompts, offsets, batch_size, progress)
        means.append(mean)
        tried.append(offsets)
        slope = slope * chosen
        steepness = slope.square().sum()
        if abs(mean) < CLOSE or steepness == 0:
            break
        offsets = (offsets - mean * slope / steepness).clamp(-LARGEST, LARGEST)
    best = min(range(len(means)), key=lambda step: abs(means[step]))
    return tried[best], means


def _mean_and_slope(
    model: PreTrainedModel,
    prompts: Sequence[BinaryPrompt],
    offsets: Tensor,
    batch_size: int | None,
    progress: Progress | None,
) -> tuple[float, Tensor]:
    """The mean log odds of N prompts with the offsets, and its slope in each, [L, H]."""
    offsets = offsets.clone().requires_grad_()
    slope = torch.zeros_like(offsets, requires_grad=False)
    total = torch.zeros(1, dtype=offsets.dtype)

    def work(indices: list[int]) -> None:
        batch = [prompts[index] for index in indices]
        odds = answer_log_odds(answer_logits(model, batch), batch).sum()
        (own,) = torch.autograd.grad(odds, offsets)
        value = odds.detach().cpu()
        slope.add_(own)  # last, and in place: memory that runs out has a batch done again
        total.add_(value)

    with torch.enable_grad(), attention_offset(model, offsets, words_of(prompts[0])):
        in_batches(model, prompts, batch_size, work, progress, doing="taking the slope")
    processes.add_up(total, slope)
    return float(total) / len(prompts), slope / len(prompts)


def _fit(material: Material) -> Fitted:
    """Balances all heads: it takes them a third of the offsets that those of highest NAS need."""
    if not material.pairs:
        raise NothingToFixError("There is no pair of answers to balance; probe more questions.")
    model, run, settings = material.model, material.run, material.settings
    geometry, builder = HeadGeometry.of(model), material.builder()
    chosen = torch.ones(geometry.layers, geometry.heads, dtype=torch.bool)
    pairs = some_of_each(material.pairs, EXAMPLES, f"{settings.seed}/offset")
    prompts = [builder.binary(example) for example in pairs]
    total = (STEPS + 1) * len(prompts)
    with run.stage("offset", "Balancing Yes and No", total) as done:
        offsets, means = balanced(model, prompts, chosen, settings.batch_size, done)
        done(total - len(means) * len(prompts))
    words = words_of(prompts[0])
    return Fitted(
        on=lambda served: attention_offset(served, offsets, words),
        parameters=int(offsets.count_nonzero()),
        chosen={
            "heads": int(chosen.sum()),
            "mean log odds": [round(mean, 4) for mean in means],
            "largest offset": float(offsets.abs().max()),
        },
    )


OFFSET = Rival(
    "offset", "attention offset, closed form, no training", "a runtime hook", False, _fit
)
