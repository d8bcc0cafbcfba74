"""The rows that nasa+ tunes, by the rule of the rivals.

Query and key rows of a tenth of the heads, those of highest attribution, get a low-rank change with
the same samples, steps, rates and selection as every trained rival. What differs from LoRA then is
which outputs may change, and nothing else.
"""

from dataclasses import replace

from nasalign.head_rows.low_rank import outputs_of
from nasalign.head_rows.rows import head_slices
from nasalign.models.geometry import HeadGeometry
from nasalign.nasa_plus.attribution import attribution, most_attributed
from nasalign.rivals.lora import best_low_rank
from nasalign.rivals.rate_search import RateSearch
from nasalign.rivals.rival import Fitted, Material, Rival


def _fit(material: Material) -> Fitted:
    model = material.model
    search = RateSearch(material, TUNED_ROWS.name, TUNED_ROWS.title)
    prompts = [(right[0], wrong[0]) for right, wrong in search.pairs]
    title = "What each head does to the answer"
    with material.run.stage("attribution", title, 2 * len(prompts)) as done:
        norms = attribution(model, prompts, material.settings.batch_size, done)
    heads, geometry = most_attributed(norms), HeadGeometry.of(model)
    slices = [where for head in heads for where in head_slices(geometry, *head, "group")]
    fitted = best_low_rank(search, outputs_of(model, slices))
    chosen = dict(fitted.chosen) | {"heads": [list(head) for head in heads]}
    return replace(fitted, chosen=chosen)


TUNED_ROWS = Rival(
    "rows",
    "LoRA on query and key rows of a tenth of the heads",
    "an adapter, or merged weights",
    False,
    _fit,
)
