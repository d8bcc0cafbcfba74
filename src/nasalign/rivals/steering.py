"""A steering vector by contrastive activation addition (Rimsky et al., 2024).

The vector is the mean difference of the residual stream at the answer's token between a prompt
that is answered by the positive word and the same prompt answered by the negative one. It is added
to the input of one layer, at every position. Rimsky et al. add it only after the prompt; but the
verdict is read off the prompt's own last token, and a layer does not know where a prompt ends. At
every position, the change is the same for a prompt alone, in a padded batch, after a shared prefix
and during generation, and it is defined for texts that are no prompts.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from nasalign.data.records import BinaryExample
from nasalign.errors import NothingToFixError
from nasalign.rivals.observed import answer_pair, last_inputs, layer_names, some_of_each
from nasalign.rivals.rival import Fitted, Material, Rival, balanced_accuracy, odds_of

PLACES = (0.25, 0.4, 0.55, 0.7)
"""Layers that are tried, as shares of the depth."""
COEFFICIENTS = (0.05, 0.1, 0.2, 0.4)
"""Norms of the vector that are tried, in units of the residual stream's mean norm there."""
CONTRASTS = 40
"""Maximum number of examples that the vector is the mean over."""
JUDGES = 48
"""Maximum number of development examples by which layer and coefficient are chosen."""


@dataclass(frozen=True, eq=False)
class SteeringVector:
    """A vector [hidden], float32, that is added to the input of the layer of that index."""

    layer: int
    vector: Tensor

    @contextmanager
    def on(self, model: PreTrainedModel) -> Iterator[None]:
        """Add the vector at every position while in the context."""

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
    material: Material, examples: Sequence[BinaryExample], layers: Sequence[int]
) -> tuple[list[Tensor], list[float]]:
    """Return what the two answers to prompts differ in, before each of some layers.

    Returns:
        For each layer the mean of positive minus negative, [hidden] float32, and the mean norm of
        the residual stream, both at the token of the answer.
    """
    model, builder = material.model, material.builder()
    prompts = [builder.binary(one) for one in examples]
    both = [answer_pair(material.session.tokenizer, prompt, builder.words) for prompt in prompts]
    answered = [
        replace(prompt, token_ids=(*prompt.token_ids, pair[side]))
        for side in (0, 1)
        for prompt, pair in zip(prompts, both, strict=True)
    ]
    names = [layer_names(model)[layer] for layer in layers]
    states = last_inputs(model, answered, names, material.settings.batch_size)
    halves = [state.chunk(2) for state in states]  # twice [N, hidden]
    vectors = [(positive - negative).mean(dim=0) for positive, negative in halves]
    return vectors, [float(state.norm(dim=-1).mean()) for state in states]


def _fit(material: Material) -> Fitted:
    """Choose layer and coefficient by balanced accuracy on the development split.

    The vector points away from the answer that the model leans to. Among equals the smaller
    coefficient wins, then the lower layer.
    """
    if not material.pairs:
        raise NothingToFixError("There is no example to find a steering vector on; probe more.")
    model = material.model
    depth = len(layer_names(model))
    layers = sorted({min(depth - 1, round(share * depth)) for share in PLACES})
    draw = f"{material.settings.seed}/steering"
    judges = some_of_each(material.development, JUDGES, draw)
    vectors, norms = contrast(material, some_of_each(material.pairs, CONTRASTS, draw), layers)
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
