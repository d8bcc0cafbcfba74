"""How much of an alignment is left when its weights are rounded to another dtype."""

from dataclasses import dataclass

import torch

from nasalign.adapters.adapter import Adapter


@dataclass(frozen=True)
class Rounding:
    """What is left of a change after the untouched and the tuned rows were both rounded.

    Attributes:
        dtype: to which they were rounded.
        norm: norm of the change after rounding, over that before it; rounding may also enlarge it.
        cosine: between the change after rounding and before; 0 if nothing is left.
        entries: share of the changed weights that still differ.
    """

    dtype: str
    norm: float
    cosine: float
    entries: float

    @classmethod
    def of(cls, adapter: Adapter, dtype: torch.dtype) -> "Rounding":
        """Measure it over all changed rows, in float64."""
        exact = left = product = 0.0
        changed = different = 0
        for where, rows in adapter.after.items():
            before, after = adapter.before[where].cpu(), rows.cpu()  # not every device has float64
            change = after.double() - before.double()
            rounded = after.to(dtype).double() - before.to(dtype).double()
            exact += float(change.square().sum())
            left += float(rounded.square().sum())
            product += float((change * rounded).sum())
            changed += int((change != 0).sum())
            different += int(((change != 0) & (rounded != 0)).sum())
        cosine = product / (exact * left) ** 0.5 if left else 0.0
        name = str(dtype).removeprefix("torch.")
        return cls(name, (left / exact) ** 0.5, cosine, different / changed)
