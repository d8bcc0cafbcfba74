"""The heads that nasa+ tunes, by the rule of the rivals.

A tenth of the heads, those of highest attribution, get the low-rank change of nasa+ with the same
samples, steps, rates and selection as every trained rival. What differs from LoRA then is what may
change, and nothing else.
"""

from dataclasses import replace

from nasalign.head_rows.low_rank import outputs_of
from nasalign.nas.heads import Head
from nasalign.nasa_plus.attribution import attribution, most_attributed
from nasalign.nasa_plus.head_parts import joint_slices
from nasalign.rivals.lora import best_low_rank
from nasalign.rivals.rate_search import RateSearch
from nasalign.rivals.rival import Fitted, Material, Rival


def _fit(material: Material) -> Fitted:
    model = material.model
    search = RateSearch(material, LORA_HEADS.name, LORA_HEADS.title)
    prompts = [(right[0], wrong[0]) for right, wrong in search.pairs]
    title = "What each head does to the answer"
    with material.run.stage("attribution", title, 2 * len(prompts)) as done:
        norms = attribution(model, prompts, material.settings.batch_size, done)
    heads = [Head(*place, float(norms[place])) for place in most_attributed(norms)]
    slices, columns = joint_slices(model, heads, material.settings)
    fitted = best_low_rank(search, outputs_of(model, slices), columns)
    chosen = dict(fitted.chosen) | {"heads": [list(head[:2]) for head in heads]}
    return replace(fitted, chosen=chosen)


LORA_HEADS = Rival(
    "lora-heads",
    "LoRA on the heads of nasa+",
    "an adapter, or merged weights",
    False,
    _fit,
)
