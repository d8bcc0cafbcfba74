"""The result of an alignment: changed rows, as an exact LoRA adapter or inside a checkpoint."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from nasalign.adapters.adapter_checks import Changes, selector
from nasalign.adapters.adapter_file import Origin, Reduction, read_adapter, write_adapter
from nasalign.adapters.scaling import Calibration
from nasalign.errors import ModelError, NasAlignError, shortened
from nasalign.head_rows.low_rank import Factors, changed_rows
from nasalign.head_rows.rows import joined, read_weight_rows, write_rows
from nasalign.io.digests import sha256
from nasalign.models.head_layouts import RowSlice, out_features, weight_of
from nasalign.models.loading import fingerprint

_PLACE = attrgetter("module", "start")


@dataclass(frozen=True, repr=False)
class Adapter:
    """Rows of a model before and after alignment, each [D, in] in the weight's dtype.

    ``with adapter.on(model):`` applies it for a while; ``apply`` and ``revert`` change the model
    for good.

    Attributes:
        before: the untouched rows.
        after: the rows that replace them.
        out_features: number of rows of each module that owns some of them.
        base_fingerprint: ``models.loading.fingerprint`` of the untouched model.
        factors: A and B of each module where B A, of a low rank, is what was added to the rows.
    """

    before: dict[RowSlice, Tensor]
    after: dict[RowSlice, Tensor]
    out_features: dict[str, int]
    base_fingerprint: str
    factors: Factors | None = None

    @classmethod
    def between(
        cls,
        before: dict[RowSlice, Tensor],
        model: PreTrainedModel,
        base_fingerprint: str,
        factors: Factors | None = None,
    ) -> "Adapter":
        """Compare a model with earlier copies of its rows and keep those that changed.

        Rows of a weight that several modules have (the shared layers of Zamba) are named for each,
        since PEFT changes modules, not weights. With ``factors`` all rows are kept if one changed.
        """
        names = {where.module: _modules_with(model, where.module) for where in before}
        before = {
            replace(where, module=module): rows
            for where, rows in before.items()
            for module in names[where.module]
        }
        after = {where: read_weight_rows(model, where) for where in before}
        changed = [where for where in before if not torch.equal(before[where], after[where])]
        if factors is not None:
            factors = {one: factors[name] for name, every in names.items() for one in every}
            changed = list(before) if changed else []
        return cls(
            {where: before[where] for where in changed},
            {where: after[where] for where in changed},
            {where.module: out_features(model.get_submodule(where.module)) for where in changed},
            base_fingerprint,
            factors if changed else None,
        )

    def __repr__(self) -> str:
        """Return how many weights it changes, and of which model, in a line."""
        rows = sum(where.stop - where.start for where in self.after)
        modules = len({where.module for where in self.after})
        return (
            f"Adapter({self.parameters:,} weights in {rows:,} rows of {modules:,} modules, for the "
            f"model {self.base_fingerprint})"
        )

    @property
    def parameters(self) -> int:
        """Number of changed weights: of a low-rank change those in its rows and columns."""
        wide = {name: int(a.any(dim=0).sum()) for name, (a, _) in (self.factors or {}).items()}
        return sum(
            len(rows) * wide.get(where.module, rows.shape[1]) for where, rows in self.after.items()
        )

    @property
    def trained(self) -> int:
        """Number of trained weights: those of the factors, or all that changed."""
        factors = self.factors and self.factors.values()
        return sum(a.numel() + b.numel() for a, b in factors) if factors else self.parameters

    def apply(self, model: PreTrainedModel) -> None:
        """Write the aligned rows into the model; changes it."""
        for where, rows in self.after.items():
            write_rows(model, where, rows)

    def revert(self, model: PreTrainedModel) -> None:
        """Write the untouched rows back, equal to the bit; changes the model."""
        for where, rows in self.before.items():
            write_rows(model, where, rows)

    @contextmanager
    def on(self, model: PreTrainedModel) -> Iterator[None]:
        """Apply the adapter while in the context.

        On leaving, also after an error, the rows are what they were on entering, to the bit.
        """
        with rows_put_back(model, self):  # also if memory runs out while only half is applied
            self.apply(model)
            yield

    def save(
        self,
        folder: str | Path,
        base_model: str | Path,
        calibration: Calibration | None = None,
    ) -> None:
        """Write a PEFT LoRA adapter whose ``B @ A`` is the change of the rows.

        A holds the row deltas [r, in] and B [out, r] puts each into its row, unless there are
        ``factors``, which are A and B; r is the same for all modules, and alpha is r, so that the
        scaling is 1.

        Args:
            folder: a new folder, or an adapter that is replaced.
            base_model: for ``adapter_config.json``; of a local path only the last part is written.
            calibration: of both models, which is read back by ``read_calibration``.

        Raises:
            NasAlignError: no row has changed, and PEFT has no form for an empty adapter; or a row
                is not finite.
        """
        if not self.after:
            raise NasAlignError("No row has changed, so there is no adapter to write.")
        for where, rows in self.after.items():
            if not rows.isfinite().all():
                raise NasAlignError(
                    f"The tuned rows of {where.module} are not finite, so there is no adapter to "
                    "write; take a lower learning rate."
                )
        groups = groupby(sorted(self.after, key=_PLACE), attrgetter("module"))
        slices = {module: list(group) for module, group in groups}
        places = {
            module: torch.cat([torch.arange(where.start, where.stop) for where in own])
            for module, own in slices.items()
        }
        changes: Changes = {}
        reduction = None
        if self.factors is None:
            for module, own in slices.items():
                parts = [self.after[where].float() - self.before[where].float() for where in own]
                chosen = selector(places[module], self.out_features[module])
                changes[module] = torch.cat(parts).cpu(), chosen
        else:  # of a low rank, of which nothing is missing
            changes = {module: (a.float(), b.float()) for module, (a, b) in self.factors.items()}
            rank = max(len(a) for a, _ in changes.values())
            changed = {module: own.tolist() for module, own in places.items()}
            reduction = Reduction(rank, 0.0, dict.fromkeys(changes, 0.0), changed)
        dtype = str(next(iter(self.before.values())).dtype).removeprefix("torch.")
        rows_before = rows_digest(self.before)
        origin = Origin(self.base_fingerprint, rows_before, dtype, reduction, "", calibration)
        write_adapter(Path(folder), changes, origin, str(base_model))


@contextmanager
def rows_put_back(model: PreTrainedModel, adapter: Adapter) -> Iterator[None]:
    """Restore the rows that an adapter changes, to the bit, to what they were on entering."""
    found = {where: read_weight_rows(model, where) for where in adapter.after}
    try:
        yield
    finally:
        for where, rows in found.items():
            write_rows(model, where, rows)


def load_adapter(folder: str | Path, model: PreTrainedModel) -> Adapter:
    """Read an adapter that nasalign wrote, for the untouched model it was made from.

    An adapter of reduced rank is as near to the exact one as its file says.

    Raises:
        ModelError: there is no adapter, it is broken, or it belongs to another model.
    """
    file, base = read_adapter(Path(folder)), fingerprint(model)
    made_for = file.origin.base
    another = ModelError(
        f"The adapter {folder} was made for {shortened(file.base_model)}"
        f"{f' in {file.origin.dtype}' if file.origin.dtype else ''}, which is another model or "
        f"another dtype than {model.name_or_path or 'this one'}."
    )
    # The fingerprint of a quantised model differs from that of its checkpoint, although the rows
    # are the same; these are compared below.
    if made_for != base and "quantised" not in made_for + base:
        raise another
    before: dict[RowSlice, Tensor] = {}
    for module, (first, second) in file.changes.items():
        if not _holds(model, module, (len(second), first.shape[1])):
            raise another
        for where in joined(RowSlice(module, row, row + 1) for row in file.rows[module]):
            before[where] = read_weight_rows(model, where)
    after = changed_rows(before, file.changes)
    if not all(rows.isfinite().all() for rows in after.values()):
        raise ModelError(f"The adapter {folder} holds numbers that are not finite.")
    out_features = {module: len(second) for module, (_, second) in file.changes.items()}
    if file.origin.rows != rows_digest(before):
        raise ModelError(
            f"The rows that the adapter {folder} changes are not as they were; is it in "
            "the model already?"
        )
    factors = file.changes if file.origin.reduction else None
    return Adapter(before, after, out_features, base, factors)


def _modules_with(model: PreTrainedModel, name: str) -> list[str]:
    """Names of the modules that have the weight of a module."""
    weight = model.get_submodule(name).weight
    return [other for other, one in model.named_modules() if getattr(one, "weight", None) is weight]


def _holds(model: PreTrainedModel, module: str, shape: tuple[int, int]) -> bool:
    """Whether a module is a linear one, but not the output embedding, whose weight has a shape."""
    try:
        found = model.get_submodule(module)
    except AttributeError:
        return False
    linear = isinstance(found, nn.Linear | Conv1D) and found is not model.get_output_embeddings()
    return linear and tuple(weight_of(model, module).shape) == shape


def rows_digest(rows: dict[RowSlice, Tensor]) -> str:
    """Return a SHA-256 over rows, however they are sliced."""
    return sha256(rows[where].float().cpu().numpy().tobytes() for where in sorted(rows, key=_PLACE))
