"""A steering vector by contrastive activation addition (Rimsky et al., 2024).

The vector is the mean difference of the residual stream at the answer's token between a prompt
that is answered by the positive word and the same prompt answered by the negative one. It is added
to what enters one layer, at every position of whatever the model reads or writes. Rimsky et al.
add it to the positions after the prompt alone; but the verdict is read off the prompt's own last
token, and where a prompt ends is not told to a layer. At every position, the change is the same
for a prompt alone, in a padded batch, after a shared prefix and while an answer is generated, and
it is defined for texts that are no prompts.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.errors import NothingToFixError
from nasalign.prompts.builder import BinaryPrompt
from nasalign.prompts.wordings import Vocabulary
from nasalign.rivals.observed import answer_pair, last_inputs, layer_names, some_of_each
from nasalign.rivals.rival import Fitted, Material, Rival, balanced_accuracy, odds_of

PLACES = (0.25, 0.4, 0.55, 0.7)
"""Layers that are tried, as shares of the depth."""
COEFFICIENTS = (0.05, 0.1, 0.2, 0.4)
"""Norms of the vector that are tried, in units of the residual stream's mean norm there."""
CONTRASTS = 40
"""Examples at most that the vector is the mean over."""
JUDGES = 48
"""Examples of the development split at most by which layer and coefficient are chosen."""


@dataclass(frozen=True, eq=False)
class SteeringVector:
    """A vector that is added to the residual stream.

    Attributes:
        layer: index of the layer that it is added before.
        vector: [hidden], float32.
    """

    layer: int
    vector: Tensor

    @contextmanager
    def on(self, model: PreTrainedModel) -> Iterator[None]:
        """Adds the vector to what enters the layer, at every position, while in the context."""

        def add(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            hidden = inputs[0]  # [B, T, hidden]
            return (hidden + self.vector.to(hidden.device, hidden.dtype), *inputs[1:])

        layer = model.get_submodule(layer_names(model)[self.layer])
        hook = layer.register_forward_pre_hook(add)
        try:
            yield
        finally:
            hook.remove()


def contrast(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[BinaryPrompt],
    words: Vocabulary,
    layers: Sequence[int],
    batch_size: int | None = None,
) -> tuple[list[Tensor], list[float]]:
    """Returns the mean difference of the two answers before some layers, and the mean norm there.

    Args:
        model: the model; left as it was.
        tokenizer: its tokenizer.
        prompts: what is answered by each of the words.
        words: the words.
        layers: indices of the layers.
        batch_size: prompts a batch; by tokens unless given.

    Returns:
        For each layer positive minus negative, [hidden] float32, and the norm, both at the token
        of the answer.
    """
    both = [answer_pair(tokenizer, prompt, words) for prompt in prompts]
    answered = [
        replace(prompt, token_ids=(*prompt.token_ids, pair[side]))
        for side in (0, 1)
        for prompt, pair in zip(prompts, both, strict=True)
    ]
    names = layer_names(model)
    states = last_inputs(model, answered, [names[layer] for layer in layers], batch_size)
    halves = [state.chunk(2) for state in states]  # twice [N, hidden]
    vectors = [(positive - negative).mean(dim=0) for positive, negative in halves]
    return vectors, [float(state.norm(dim=-1).mean()) for state in states]


def _fit(material: Material) -> Fitted:
    """Chooses layer and coefficient by balanced accuracy on the development split.

    The vector points away from the answer that the model leans to. Of equals the smaller
    coefficient counts, then the lower layer.
    """
    if not material.pairs:
        raise NothingToFixError("There is no example to find a steering vector on; probe more.")
    model, builder = material.model, material.builder()
    depth = len(layer_names(model))
    layers = sorted({min(depth - 1, round(share * depth)) for share in PLACES})
    draw = f"{material.settings.seed}/steering"
    judges = some_of_each(material.development, JUDGES, draw)
    prompts = [builder.binary(one) for one in some_of_each(material.pairs, CONTRASTS, draw)]
    vectors, norms = contrast(
        model, material.tokenizer, prompts, builder.words, layers, material.settings.batch_size
    )
    odds = odds_of(material.scores(judges))
    sign = 1.0 if odds.median() < 0 else -1.0
    found: list[tuple[float, float, int, SteeringVector]] = []
    total = len(COEFFICIENTS) * len(layers) * len(judges)
    with material.run.stage("steering", "Choosing a steering vector", total) as done:
        for coefficient in COEFFICIENTS:
            for layer, vector, norm in zip(layers, vectors, norms, strict=True):
                change = SteeringVector(layer, sign * coefficient * norm * vector / vector.norm())
                with change.on(model):
                    reached = balanced_accuracy(odds_of(material.scores(judges)), judges)
                found.append((reached, sign * coefficient, layer, change))
                done(len(judges))
    reached, coefficient, layer, change = max(found, key=lambda one: one[0])  # the first of equals
    return Fitted(
        on=change.on,
        parameters=change.vector.numel(),
        chosen={"layer": layer, "coefficient": coefficient, "balanced accuracy": reached},
    )


STEERING = Rival(
    "steering",
    "steering vector (Rimsky et al., 2024)",
    "a vector added to the residual stream of one layer",
    False,
    _fit,
)
