"""What an export leaves: all of its files or none, and what is told of them."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from nasalign.alignment.adapter_file import Reduction
from nasalign.alignment.rounding import Rounding
from nasalign.errors import NasAlignError
from nasalign.reporting.card import FILE, Form
from nasalign.storage import beside


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        target: a folder, or a GGUF file.
        form: ``"merged"``, ``"adapter"`` or ``"gguf"``.
        dtype: of the weights.
        rounding: what is left of the change, where the weights were rounded to another dtype.
        reduction: what the adapter lacks of the exact one, where it was reduced.
    """

    target: Path
    form: Form
    dtype: str
    rounding: Rounding | None = None
    reduction: Reduction | None = None

    @property
    def card(self) -> Path:
        """The card: in the folder, or beside the GGUF file."""
        return card_path(self.target, self.form)

    def as_dict(self) -> dict[str, Any]:
        """Returns it as JSON takes it."""
        return {
            "target": str(self.target),
            "card": str(self.card),
            "format": self.form,
            "dtype": self.dtype,
            "rounding": asdict(self.rounding) if self.rounding else None,
            "reduction": asdict(self.reduction) if self.reduction else None,
        }


def card_path(target: Path, form: Form) -> Path:
    """Returns where the card of an export is."""
    return target.with_suffix(".md") if form == "gguf" else target / FILE


@contextmanager
def whole(*targets: Path) -> Iterator[Path]:
    """Yields a folder in which to make targets, each by its name; they are moved out at the end.

    Raises:
        NasAlignError: they cannot be written; nothing of them is left.
    """
    try:
        with beside(*targets) as workplace:
            yield workplace
    except NasAlignError:
        raise
    except Exception as error:
        # The tokenizers library raises a bare Exception for what the system refuses.
        if not isinstance(error, OSError | SafetensorError) and "os error" not in str(error):
            raise
        first = error.args[0][0][2] if isinstance(error, shutil.Error) else error
        reason = getattr(first, "strerror", None) or str(first)
        raise NasAlignError(
            f"The export cannot be written to {targets[0]}: {reason}; nothing was left there."
        ) from error
