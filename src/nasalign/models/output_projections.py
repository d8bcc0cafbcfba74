"""The output projections of attention, whose input is the outputs of the heads."""

from torch import nn
from transformers import PreTrainedModel

from nasalign.models.geometry import HeadGeometry


def attention_outputs(model: PreTrainedModel) -> dict[int, str]:
    """Return the name of the output projection of the attention, by layer.

    Its input is the outputs of the heads, one block of equal size for each. A layer is missing
    where it has no heads, or no such linear module whose weight can be read (that of a quantised
    model is packed integers).
    """
    geometry, linear = HeadGeometry.of(model), plain_linear(model)
    found = {}
    for layer, attention in geometry.modules.items():
        own, heads = (f"{attention}.o_proj", f"{attention}.dense"), geometry.attention[layer]
        name = next((one for one in own if one in linear), None)
        if name and heads and model.get_submodule(name).in_features % heads.heads == 0:
            found[layer] = name
    return found


def plain_linear(model: PreTrainedModel) -> set[str]:
    """Return the names of linear modules whose weights can be read."""
    return {
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.weight.is_floating_point()
    }
