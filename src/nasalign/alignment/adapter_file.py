"""The file of an adapter: PEFT's tensors, and in its metadata what nasalign has to know of them."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from nasalign.errors import ModelError

PREFIX = "base_model.model."
FILE = "adapter_model.safetensors"
_KEY = "nasalign"  # one key alone: the order of several in the file is not fixed


@dataclass(frozen=True)
class Origin:
    """What an adapter was made from.

    Attributes:
        base: ``models.loading.fingerprint`` of the untouched model.
        rows: a SHA-256 over its rows that the adapter changes.
        dtype: the dtype in which it was tuned; empty in a file that does not say.
    """

    base: str
    rows: str
    dtype: str = ""

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
                return cls(*text.split())
            return cls(**json.loads(text))
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
        raise ModelError(f"There is no adapter in {folder}.") from error
    except (SafetensorError, OSError) as error:
        raise ModelError(f"The adapter {path} cannot be read: {error}.") from error


def modules_of(file: Any) -> dict[str, str]:
    """Returns the modules that an open adapter changes, in order, with the name of each one's A."""
    names = sorted(name for name in file.keys() if name.endswith(".lora_A.weight"))  # noqa: SIM118
    return {name.removeprefix(PREFIX).removesuffix(".lora_A.weight"): name for name in names}


def changed_weights(folder: Path) -> int:
    """Returns the number of weights in the rows that an adapter changes.

    Raises:
        ModelError: as of ``open_adapter``.
    """
    with open_adapter(folder) as (file, _):
        return sum(math.prod(file.get_slice(a).get_shape()) for a in modules_of(file).values())
