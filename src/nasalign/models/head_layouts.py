"""Query, key and value rows of the heads of an attention module, by its projections' layout.

A layout says which linear modules make queries, keys and values, and in which order the heads lie
in them. What it says is checked against the sizes of the weights; ``tests/models`` checks it by
changing the rows of each head and looking at what reaches the attention function.
"""

from dataclasses import dataclass
from inspect import unwrap

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

PROJECTIONS = (
    *("q_proj", "k_proj", "Wq", "Wk", "q_b_proj", "kv_b_proj"),
    *("qkv_proj", "Wqkv", "c_attn", "query_key_value"),
)
"""Names of the linear modules whose rows are queries and keys."""

_SEPARATE = (("q_proj", "k_proj"), ("Wq", "Wk"))
_STACKED = ("qkv_proj", "Wqkv", "c_attn")


class LayoutError(Exception):
    """The projections of an attention module are not laid out as its attributes say."""


@dataclass(frozen=True)
class RowSlice:
    """Outputs ``start`` to ``stop`` (exclusive) of a linear module.

    They are rows of its weight [out, in], or columns where the module is a Conv1D, whose weight is
    [in, out].
    """

    module: str
    start: int
    stop: int


@dataclass(frozen=True)
class RowBlocks:
    """Rows of a linear module of which each of several heads has one block."""

    module: str
    size: int  # rows of a block
    stride: int  # from the first row of a block to that of the next
    start: int = 0  # first row of the first block

    def of(self, place: int) -> RowSlice:
        """Return the block of a head, or of a group of heads."""
        first = self.start + place * self.stride
        return RowSlice(self.module, first, first + self.size)


@dataclass(frozen=True)
class LayerHeads:
    """The heads of one layer.

    Attributes:
        module: name of the attention module.
        layout: ``"separate"``, ``"gated"``, ``"latent"``, ``"stacked"`` or ``"interleaved"``.
        heads: number of query heads.
        groups: number of key heads; ``heads // groups`` query heads share one.
        query: rows of each head's query.
        key: rows of each group's key; None where the layer takes the keys of an earlier one.
        value: rows of each group's value; None where it has none of its own.
    """

    module: str
    layout: str
    heads: int
    groups: int
    query: RowBlocks
    key: RowBlocks | None
    value: RowBlocks | None = None

    @property
    def head_size(self) -> int:
        """Rows of a head's query."""
        return self.query.size


def reads_interface(module: nn.Module) -> bool:
    """Whether a module calls an attention function of ``transformers.AttentionInterface``."""
    return "ALL_ATTENTION_FUNCTIONS" in _names_used(module, "forward")


def has_own_softmax(module: nn.Module) -> bool:
    """Whether a module is attention that computes its softmax itself, beside the interface.

    One with a single projection at most is none: it weighs earlier layers, not tokens (Inkling 2).
    """
    if "att" not in type(module).__name__.lower() or reads_interface(module):
        return False
    weights = [getattr(child, "weight", None) for child in module.children()]
    names = {name for method in vars(type(module)) for name in _names_used(module, method)}
    softmax = not names.isdisjoint({"softmax", "Softmax", "scaled_dot_product_attention"})
    return softmax and sum(weight is not None and weight.dim() == 2 for weight in weights) > 1


def says_what_it_attends(module: nn.Module) -> bool:
    """Whether sparse attention gives the attention function the keys that it picks (GLM-5)."""
    code = getattr(unwrap(type(module).forward), "__code__", None)
    return code is not None and "sparse_indices" in code.co_varnames


def read_layout(name: str, attention: nn.Module) -> LayerHeads | None:
    """Return the heads of an attention module, or None if its layout is not known.

    Raises:
        LayoutError: the sizes of the projections do not fit the layout.
    """
    if _is_linear(attention, "kv_b_proj"):
        return _latent(name, attention)
    for query, key in _SEPARATE:
        if _is_linear(attention, query):
            shares = getattr(attention, "is_kv_shared_layer", False)
            if shares or _is_linear(attention, key):
                return _separate(name, attention, query, None if shares else key)
    for module in _STACKED:
        if _is_linear(attention, module):
            turns = getattr(attention, "multi_query", True) is False  # of GPT-BigCode
            return (_interleaved if turns else _stacked)(name, attention, module)
    if _is_linear(attention, "query_key_value"):
        return _interleaved(name, attention, "query_key_value")
    return None


def out_features(module: nn.Module) -> int:
    """Return the number of outputs of a linear module or Conv1D."""
    size = module.nf if isinstance(module, Conv1D) else module.out_features
    assert isinstance(size, int)
    return size


def weight_of(model: PreTrainedModel, name: str) -> Tensor:
    """Return the weight [out, in] of a linear module or Conv1D; writing to it changes the model."""
    module = model.get_submodule(name)
    weight = module.weight
    assert isinstance(weight, nn.Parameter)
    return weight.T if isinstance(module, Conv1D) else weight


def _separate(name: str, attention: nn.Module, query: str, key: str | None) -> LayerHeads:
    """Queries and keys in two modules: Llama and most others.

    With a gate, each head's query rows are followed by as many of its gate (Qwen3-Next, Qwen 3.5).
    """
    size, ratio = _head_size(attention), _ratio(attention)
    queries = out_features(getattr(attention, query))
    keys = queries // ratio if key is None else out_features(getattr(attention, key))
    groups = keys // size
    heads = groups * ratio
    gated = key is not None and queries == 2 * heads * size
    _check([queries, keys], [heads * size * (2 if gated else 1), groups * size])
    third = "v_proj" if query == "q_proj" else "Wv"
    value = None
    if key is not None and _is_linear(attention, third):
        own, rest = divmod(out_features(getattr(attention, third)), groups)
        value = None if rest else RowBlocks(f"{name}.{third}", own, own)
    return LayerHeads(
        name,
        "gated" if gated else "separate",
        heads,
        groups,
        RowBlocks(f"{name}.{query}", size, 2 * size if gated else size),
        None if key is None else RowBlocks(f"{name}.{key}", size, size),
        value,
    )


def _latent(name: str, attention: nn.Module) -> LayerHeads | None:
    """Multi-head latent attention: keys and values come out of a latent that all heads share.

    Each head has its own rows of ``kv_b_proj``: those of its key, then those of its value. The
    rotary part of the key is the same for all heads and belongs to none.
    """
    query = next((one for one in ("q_b_proj", "q_proj") if _is_linear(attention, one)), None)
    size = getattr(attention, "qk_head_dim", None)
    own = getattr(attention, "qk_nope_head_dim", None)
    value = getattr(attention, "v_head_dim", None)
    if query is None or size is None or own is None or value is None:
        return None
    rows = [out_features(getattr(attention, one)) for one in (query, "kv_b_proj")]
    heads = rows[0] // size
    _check(rows, [heads * size, heads * (own + value)])
    return LayerHeads(
        name,
        "latent",
        heads,
        heads,
        RowBlocks(f"{name}.{query}", size, size),
        RowBlocks(f"{name}.kv_b_proj", own, own + value),
        RowBlocks(f"{name}.kv_b_proj", value, own + value, own),
    )


def _stacked(name: str, attention: nn.Module, module: str) -> LayerHeads:
    """All queries, all keys, all values one after the other: Phi-3, DBRX, GPT-2."""
    size, ratio, rows = _head_size(attention), _ratio(attention), _rows(attention, module)
    groups = rows // ((ratio + 2) * size)
    heads = groups * ratio
    _check([rows], [(heads + 2 * groups) * size])
    path = f"{name}.{module}"
    query, key = RowBlocks(path, size, size), RowBlocks(path, size, size, heads * size)
    value = RowBlocks(path, size, size, (heads + groups) * size)
    return LayerHeads(name, "stacked", heads, groups, query, key, value)


def _interleaved(name: str, attention: nn.Module, module: str) -> LayerHeads:
    """Query, key and value of each head in turn: GPT-NeoX, Persimmon."""
    size, rows = _head_size(attention), _rows(attention, module)
    heads = rows // (3 * size)
    _check([rows, _ratio(attention)], [3 * heads * size, 1])
    path = f"{name}.{module}"
    query, key = RowBlocks(path, size, 3 * size), RowBlocks(path, size, 3 * size, size)
    value = RowBlocks(path, size, 3 * size, 2 * size)
    return LayerHeads(name, "interleaved", heads, heads, query, key, value)


def _is_linear(attention: nn.Module, name: str) -> bool:
    return isinstance(getattr(attention, name, None), nn.Linear | Conv1D)


def _rows(attention: nn.Module, name: str) -> int:
    return out_features(getattr(attention, name))


def _head_size(attention: nn.Module) -> int:
    size = getattr(attention, "head_dim", None) or getattr(attention, "head_size", None)
    if not isinstance(size, int):
        raise LayoutError("its attention does not say the size of a head")
    return size


def _ratio(attention: nn.Module) -> int:
    """Query heads a key head has, as transformers repeats the keys."""
    return int(getattr(attention, "num_key_value_groups", 1))


def _check(rows: list[int], expected: list[int]) -> None:
    if rows != expected:
        raise LayoutError(f"its projections have {rows} rows where its heads take {expected}")


def _names_used(module: nn.Module, method: str) -> tuple[str, ...]:
    """Names that the code of a module's method refers to."""
    function = getattr(type(module), method, None)
    code = getattr(unwrap(function), "__code__", None) if callable(function) else None
    return code.co_names if code else ()
