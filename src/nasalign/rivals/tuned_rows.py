"""The rows that nasa+ tunes, by the rule of the rivals.

Query and key rows of a tenth of the heads, those of highest attribution, have the same samples,
steps, rates and selection as every trained rival. What differs from LoRA then is which numbers are
trained, and nothing else; what nasa+ has beyond that (its loss, more samples, more epochs) is left
out.
"""

from collections.abc import Iterator, Sequence

from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from nasalign.head_rows.rows import TunableRows, head_slices, joined
from nasalign.models.geometry import HeadGeometry
from nasalign.nasa_plus.attribution import attribution, most_attributed
from nasalign.rivals.change import Change
from nasalign.rivals.rate_search import RateSearch
from nasalign.rivals.rival import Fitted, Material, Rival

UNIT = 0.05
"""Rates of rows are lower than those of LoRA: a step of AdamW moves each weight by the rate."""


class RowChange(Change):
    """Other query and key rows of some heads, each a layer and a head."""

    def __init__(self, model: PreTrainedModel, heads: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        geometry = HeadGeometry.of(model)
        slices = [where for head in heads for where in head_slices(geometry, *head, "group")]
        self._rows = TunableRows(model, joined(slices))
        self.rows = nn.ParameterList(self._rows.parameters.values())

    def hooks(self, model: PreTrainedModel) -> Iterator[RemovableHandle]:
        """Compute the outputs of these rows from the parameters."""
        yield from self._rows.hooks()


def _fit(material: Material) -> Fitted:
    model = material.model
    search = RateSearch(material, TUNED_ROWS.name, TUNED_ROWS.title)
    prompts = [(right[0], wrong[0]) for right, wrong in search.pairs]
    title = "What each head does to the answer"
    with material.run.stage("attribution", title, 2 * len(prompts)) as done:
        norms = attribution(model, prompts, material.settings.batch_size, done)
    heads = most_attributed(norms)
    found = {"heads": [list(head) for head in heads]}
    return search.best(lambda: RowChange(model, heads), lambda _: found, UNIT)


TUNED_ROWS = Rival(
    "rows",
    "query and key rows of a tenth of the heads, tuned as the rivals are",
    "an adapter, or merged weights",
    False,
    _fit,
)
