"""The result of an alignment: changed rows, as an exact LoRA adapter or inside a checkpoint."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig
from torch import Tensor
from transformers import PreTrainedModel

from nasalign.alignment.adapter_file import PREFIX, Origin, read_adapter, write_adapter
from nasalign.alignment.rows import read_rows, write_rows
from nasalign.errors import ModelError, NasAlignError
from nasalign.models.geometry import RowSlice
from nasalign.models.loading import fingerprint


@dataclass(frozen=True)
class Adapter:
    """Rows of a model before and after alignment, each [D, in] in the weight's dtype.

    Attributes:
        before: the untouched rows.
        after: the rows that replace them.
        out_features: number of rows of each module that owns some of them.
        base_fingerprint: ``models.loading.fingerprint`` of the untouched model.
    """

    before: dict[RowSlice, Tensor]
    after: dict[RowSlice, Tensor]
    out_features: dict[str, int]
    base_fingerprint: str

    @classmethod
    def between(
        cls, before: dict[RowSlice, Tensor], model: PreTrainedModel, base_fingerprint: str
    ) -> "Adapter":
        """Compares a model with earlier copies of its rows and keeps those that changed."""
        after = {where: read_rows(model, where) for where in before}
        changed = [where for where in before if not torch.equal(before[where], after[where])]
        return cls(
            {where: before[where] for where in changed},
            {where: after[where] for where in changed},
            {where.module: model.get_submodule(where.module).out_features for where in changed},
            base_fingerprint,
        )

    @property
    def parameters(self) -> int:
        """Number of changed weights."""
        return sum(rows.numel() for rows in self.after.values())

    def apply(self, model: PreTrainedModel) -> None:
        """Writes the aligned rows into the model; changes it."""
        for where, rows in self.after.items():
            write_rows(model, where, rows)

    def revert(self, model: PreTrainedModel) -> None:
        """Writes the untouched rows back, equal to the bit; changes the model."""
        for where, rows in self.before.items():
            write_rows(model, where, rows)

    def save(self, folder: Path, base_model: str) -> None:
        """Writes a PEFT LoRA adapter whose ``B @ A`` is the change of the rows.

        A holds the row deltas [r, in] and B [out, r] puts each into its row; alpha is the rank, so
        that PEFT's scaling is 1.

        Args:
            folder: not there yet, or an adapter that is replaced.
            base_model: name of the model, for ``adapter_config.json``.

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
        tensors: dict[str, Tensor] = {}
        ranks: dict[str, int] = {}
        for module in sorted({where.module for where in self.after}):
            slices = sorted(
                (where for where in self.after if where.module == module),
                key=lambda where: where.start,
            )
            deltas = torch.cat(
                [self.after[where].float() - self.before[where].float() for where in slices]
            )
            rows = torch.cat([torch.arange(where.start, where.stop) for where in slices])
            ranks[module] = len(rows)
            tensors[f"{PREFIX}{module}.lora_A.weight"] = deltas.cpu()
            tensors[f"{PREFIX}{module}.lora_B.weight"] = _selector(rows, self.out_features[module])
        rank = max(ranks.values())
        config = LoraConfig(
            task_type="CAUSAL_LM",
            base_model_name_or_path=base_model,
            r=rank,
            lora_alpha=rank,
            target_modules=sorted(ranks),
            rank_pattern=ranks,
            alpha_pattern=ranks,
            inference_mode=True,
        ).to_dict()
        # PEFT keeps the modules as a set, whose order differs from one process to the next.
        dtype = str(next(iter(self.before.values())).dtype).removeprefix("torch.")
        origin = Origin(self.base_fingerprint, _digest(self.before), dtype)
        write_adapter(folder, config | {"target_modules": sorted(ranks)}, tensors, origin)


def load_adapter(folder: Path, model: PreTrainedModel) -> Adapter:
    """Reads an adapter that nasalign wrote, for the untouched model it was made from.

    One that was reduced (``alignment.rank``) is as near to the exact one as its file says.

    Raises:
        ModelError: there is no adapter, it is broken, or it belongs to another model.
    """
    file, base = read_adapter(folder), fingerprint(model)
    made_for, reduction = file.origin.base, file.origin.reduction
    another = ModelError(
        f"The adapter {folder} was made for another model or another dtype than "
        f"{model.name_or_path}."
    )
    # Of a quantised model the rows alone are the checkpoint's, and they are compared below.
    if made_for != base and "quantised" not in made_for + base:
        raise another
    before: dict[RowSlice, Tensor] = {}
    after: dict[RowSlice, Tensor] = {}
    out_features: dict[str, int] = {}
    for module, (first, second) in file.modules().items():
        out_features[module] = len(second)
        deltas, rows = first, second.argmax(dim=0).tolist()  # B selects the rows
        if reduction:
            rows = reduction.rows[module]
            deltas = (second[rows].double() @ first.double()).float()
        for where, part in _slices(module, rows):
            try:
                before[where] = read_rows(model, where)
            except AttributeError:  # it has no such module
                raise another from None
            delta = deltas[part].to(before[where].device)
            after[where] = (before[where].float() + delta).to(before[where].dtype)
            if not torch.isfinite(after[where]).all():
                raise ModelError(f"The adapter {folder} holds numbers that are not finite.")
    if file.origin.rows != _digest(before):
        raise ModelError(
            f"The rows that the adapter {folder} changes are not as they were; is it in "
            "the model already?"
        )
    return Adapter(before, after, out_features, base)


def _selector(rows: Tensor, out_features: int) -> Tensor:
    """B [out, r]: column j is 1 at row ``rows[j]``."""
    selector = torch.zeros(out_features, len(rows))
    selector[rows, torch.arange(len(rows))] = 1.0
    return selector


def _slices(module: str, rows: list[int]) -> Iterable[tuple[RowSlice, slice]]:
    """Runs of neighbouring rows, each with its place in A."""
    start = 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or rows[end] != rows[end - 1] + 1:
            yield RowSlice(module, rows[start], rows[end - 1] + 1), slice(start, end)
            start = end


def _digest(rows: dict[RowSlice, Tensor]) -> str:
    """A SHA-256 over rows, however they are sliced."""
    digest = hashlib.sha256()
    for where in sorted(rows, key=lambda where: (where.module, where.start)):
        digest.update(rows[where].float().cpu().numpy().tobytes())
    return digest.hexdigest()
