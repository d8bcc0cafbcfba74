"""Where Eq. 1 reads the rows of a forward pass, and which of them it adds up.

Dimensions as in ``recorder``: B batch, H query heads, T tokens, R rows in the sum; N prompts.
"""

from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class _Columns:
    positive: Tensor
    negative: Tensor

    def to(self, device: torch.device) -> Self:
        """Return the same on a device."""
        moved = {one.name: getattr(self, one.name).to(device) for one in fields(self)}
        return replace(self, **moved)


@dataclass(frozen=True)
class Positions(_Columns):
    """Where the sum of Eq. 1 runs in a padded batch; each is int64 of shape [B], on any device.

    Attributes:
        positive: column of the positive word, t_yes.
        negative: column of the negative word, t_no.
        first_row: first row of the sum, L_I.
        end_row: one past its last row, L_x; padding after it is left out.
    """

    first_row: Tensor
    end_row: Tensor

    def __len__(self) -> int:
        """Return the number of prompts, B."""
        return len(self.positive)

    def span(self) -> tuple[int, int]:
        """Return the first row of any sum, and one past the last."""
        return int(self.first_row.min()), int(self.end_row.max())

    def total(self, terms: Tensor, rows: Tensor) -> Tensor:
        """Add up the terms [B, H, R] of rows at positions [R]; return [B, H]."""
        inside = (rows >= self.first_row[:, None]) & (rows < self.end_row[:, None])  # [B, R]
        return torch.where(inside[:, None], terms, 0).sum(dim=-1)


@dataclass(frozen=True)
class PackedPositions(_Columns):
    """Where the sums of N prompts run in a batch of B rows that hold several of them (``packed``).

    Attributes:
        positive: column of the positive word in each row, int64 [B].
        negative: column of the negative word in each row, int64 [B].
        row: of each prompt, int64 [N].
        inside: which places of its row are in the sum of a prompt, bool [N, T].
    """

    row: Tensor
    inside: Tensor

    def __len__(self) -> int:
        """Return the number of prompts, N."""
        return len(self.row)

    def span(self) -> tuple[int, int]:
        """Return the first place of any sum, and one past the last."""
        places = self.inside.any(dim=0).nonzero()[:, 0]
        return int(places[0]), int(places[-1]) + 1

    def total(self, terms: Tensor, rows: Tensor) -> Tensor:
        """Add up the terms [B, H, R] of rows at places [R]; return [N, H]."""
        inside = self.inside[:, rows]  # [N, R]
        return torch.where(inside[:, None], terms[self.row], 0).sum(dim=-1)
