"""The file of an adapter: PEFT's tensors, and in its metadata what nasalign has to know of them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from nasalign.errors import ModelError, shortened

PREFIX = "base_model.model."
FILE = "adapter_model.safetensors"
_KEY = "nasalign"  # one key alone: the order of several in the file is not fixed


@dataclass(frozen=True)
class Reduction:
    """What an adapter of low rank lacks of the exact one.

    Attributes:
        rank: of every module.
        error: norm of what is missing, over that of the exact change, of all modules together.
        modules: the same for each module.
        rows: the rows of each module that the exact adapter changes, rising.
    """

    rank: int
    error: float
    modules: dict[str, float]
    rows: dict[str, list[int]]


@dataclass(frozen=True)
class Origin:
    """What an adapter was made from.

    Attributes:
        base: ``models.loading.fingerprint`` of the untouched model.
        rows: a SHA-256 over its rows that the adapter changes.
        dtype: the dtype in which it was tuned; empty in a file that does not say.
        reduction: what it lacks; None for an exact adapter.
    """

    base: str
    rows: str
    dtype: str = ""
    reduction: Reduction | None = None

    def metadata(self) -> dict[str, str]:
        """Returns it as the metadata of a safetensors file."""
        return {_KEY: json.dumps(asdict(self), sort_keys=True)}

    @classmethod
    def of(cls, metadata: dict[str, str] | None) -> "Origin | None":
        """Reads it from the metadata of a safetensors file; None if nasalign did not write it."""
        text = (metadata or {}).get(_KEY)
        if text is None:
            return None
        try:
            if not text.startswith("{"):  # as the first versions wrote it
                base, rows = text.split()
                return cls(base, rows)
            fields = json.loads(text)
            reduction = fields.pop("reduction", None)
            return cls(**fields, reduction=Reduction(**reduction) if reduction else None)
        except (ValueError, TypeError):
            return None


@contextmanager
def open_adapter(folder: Path) -> Iterator[tuple[Any, Origin]]:
    """Yields the open safetensors file of an adapter, and its origin.

    Raises:
        ModelError: there is no adapter, it is broken, or nasalign did not write it.
    """
    path = folder / FILE
    try:
        with safe_open(path, framework="pt") as file:
            origin = Origin.of(file.metadata())
            if origin is None:
                raise ModelError(f"{path} was not written by nasalign.")
            yield file, origin
    except FileNotFoundError as error:
        if (folder / "adapter_model.bin").exists():
            raise ModelError(
                f"The adapter in {folder} is a pickle (adapter_model.bin), which can run code; "
                "only safetensors are read, and only what nasalign has written."
            ) from error
        raise ModelError(f"There is no adapter in {folder}.") from error
    except (SafetensorError, OSError, AttributeError, LookupError, RuntimeError) as error:
        reason = shortened(" ".join(str(error).split()))
        raise ModelError(f"The adapter {path} is broken and cannot be read: {reason}.") from error


def modules_of(file: Any) -> dict[str, str]:
    """Returns the modules that an open adapter changes, in order, with the name of each one's A."""
    names = sorted(name for name in file.keys() if name.endswith(".lora_A.weight"))  # noqa: SIM118
    return {name.removeprefix(PREFIX).removesuffix(".lora_A.weight"): name for name in names}


def changed_weights(folder: Path) -> int:
    """Returns the number of weights in the rows that an adapter changes.

    Raises:
        ModelError: as of ``open_adapter``.
    """
    with open_adapter(folder) as (file, origin):
        shapes = {name: file.get_slice(a).get_shape() for name, a in modules_of(file).items()}
        rows = origin.reduction.rows if origin.reduction else {}
        return sum(len(rows.get(name, range(rank))) * size for name, (rank, size) in shapes.items())


def reduction_of(folder: Path) -> Reduction | None:
    """Returns what an adapter lacks of the exact one, or None if it is exact.

    Raises:
        ModelError: as of ``open_adapter``.
    """
    with open_adapter(folder) as (_, origin):
        return origin.reduction
