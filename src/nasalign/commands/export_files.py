"""What an export leaves: all of its files or none, and what is told of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from nasalign.adapters.adapter_file import Reduction
from nasalign.adapters.rounding import Rounding
from nasalign.errors import NasAlignError, StorageError
from nasalign.io.storage import beside
from nasalign.reporting.card import FILE, Form


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        target: a folder, or a GGUF file.
        form: ``"merged"``, ``"adapter"`` or ``"gguf"``.
        dtype: of the weights.
        files: names of what was written into the folder.
        rounding: what is left of the change, where the weights were rounded to another dtype.
        reduction: what the adapter lacks of the exact one, where it was reduced.
    """

    target: Path
    form: Form
    dtype: str
    files: tuple[str, ...] = ()
    rounding: Rounding | None = None
    reduction: Reduction | None = None

    @property
    def card(self) -> Path:
        """The card: in the folder, or beside the GGUF file."""
        return card_path(self.target, self.form)

    def uploads(self) -> dict[str, Path]:
        """Returns what was written, by the names that it gets on the hub."""
        if self.form == "gguf":
            return {self.target.name: self.target, FILE: self.card}
        return {name: self.target / name for name in self.files}

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


def files_in(folder: Path) -> tuple[str, ...]:
    """Returns the names of the files of a folder that nobody else has written to."""
    return tuple(
        sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    )


@contextmanager
def whole(*targets: Path) -> Iterator[Path]:
    """Yields a folder in which to make targets, each by its name; they are moved out at the end.

    Raises:
        NasAlignError: they cannot be written; nothing of them is left.
    """
    try:
        with beside(*targets) as workplace:
            yield workplace
    except Exception as error:
        cause = error.__cause__ if isinstance(error, StorageError) else error
        # The tokenizers library raises a bare Exception for what the system refuses.
        bare = type(cause) is Exception and "os error" in str(cause)
        if not (isinstance(cause, OSError | SafetensorError) or bare):
            raise
        reason = getattr(cause, "strerror", None) or str(cause)
        raise NasAlignError(
            f"The export cannot be written to {targets[0]}: {reason}; nothing was left there."
        ) from error
