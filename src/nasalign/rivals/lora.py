"""LoRA (Hu et al., 2022): low-rank changes of linear layers, of all of them or of queries and keys.

They are PEFT's: the same first weights by distribution, and ``scale * up @ down @ x`` added to what
a module puts out. They are made by hooks, as every change of a rival is (``Change``).
"""

from collections.abc import Callable, Mapping

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from nasalign.adapters.adapter import Adapter
from nasalign.head_rows.low_rank import LowRankChange, Outputs, changed_rows, outputs_of
from nasalign.head_rows.rows import head_slices, joined, read_weight_rows
from nasalign.models.geometry import HeadGeometry, text_model
from nasalign.models.head_layouts import RowSlice
from nasalign.rivals.rate_search import RateSearch
from nasalign.rivals.rival import Fitted, Material, Rival
from nasalign.session import Session


def all_linear(model: PreTrainedModel) -> Outputs:
    """Return all linear modules of the text model but the output embedding."""
    text, output = text_model(model)[0], model.get_output_embeddings()
    return {
        name: None
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not output and name.startswith(text)
    }


def queries_and_keys(model: PreTrainedModel) -> Outputs:
    """Return the modules of queries and keys; where they make something else too, not that."""
    geometry = HeadGeometry.of(model)
    slices = [head_slices(geometry, *place, "group") for place in geometry.places]
    return outputs_of(model, [where for part in slices for where in part])


def attention_linear(model: PreTrainedModel) -> Outputs:
    """Return the linear modules inside of attention: queries, keys, values and output."""
    inside = tuple(f"{name}." for name in HeadGeometry.of(model).modules.values())
    return {name: None for name in all_linear(model) if name.startswith(inside)}


def adapter_of(change: LowRankChange, session: Session) -> Adapter:
    """Return a change of the model of a session as an adapter."""
    factors, masks = change.factors, change.outputs
    rows = {
        name: range(len(b)) if (mask := masks[name]) is None else mask.nonzero()[:, 0].tolist()
        for name, (_, b) in factors.items()
    }
    slices = joined(RowSlice(name, row, row + 1) for name, own in rows.items() for row in own)
    before = {where: read_weight_rows(session.model, where) for where in slices}
    sizes = {name: len(b) for name, (_, b) in factors.items()}
    after = changed_rows(before, factors)
    return Adapter(before, after, sizes, session.fingerprint, factors)


def best_low_rank(
    search: RateSearch, outputs: Outputs, inputs: Mapping[str, Tensor] | None = None
) -> Fitted:
    """Search for the best low-rank change of some outputs; leave it as an adapter of the row."""
    material = search.material

    def about(trained: LowRankChange) -> dict[str, str]:
        if material.run.folder:
            adapter = adapter_of(trained, material.session)
            adapter.save(material.run.folder / "adapter", material.model.name_or_path)
        return {}

    return search.best(
        lambda: LowRankChange(material.model, outputs, material.settings.seed, inputs), about
    )


def _lora(name: str, which: str, outputs: Callable[[PreTrainedModel], Outputs]) -> Rival:
    title = f"LoRA on {which} (Hu et al., 2022)"

    def fit(material: Material) -> Fitted:
        return best_low_rank(RateSearch(material, name, title), outputs(material.model))

    return Rival(name, title, "an adapter, or merged weights", False, fit)


LORA_ALL = _lora("lora-all", "all linear layers", all_linear)
LORA_ATTENTION = _lora(
    "lora-attention", "attention: queries, keys, values, output", attention_linear
)
LORA_QK = _lora("lora-qk", "queries and keys", queries_and_keys)
