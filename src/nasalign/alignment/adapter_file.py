"""The file of an adapter: PEFT's tensors, and in its metadata what nasalign has to know of them."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from nasalign.errors import ModelError, NasAlignError, shortened
from nasalign.files import write_json, write_tensors
from nasalign.storage import make_subfolder, replacing

PREFIX = "base_model.model."
CONFIG, FILE = "adapter_config.json", "adapter_model.safetensors"
_A = ".lora_A.weight"
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
        content: a SHA-256 over its tensors; empty in a file that does not say.
    """

    base: str
    rows: str
    dtype: str = ""
    reduction: Reduction | None = None
    content: str = ""

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


@dataclass(frozen=True)
class AdapterFile:
    """What the folder of an adapter holds.

    Attributes:
        tensors: by PEFT's names.
        origin: what it was made from.
    """

    tensors: dict[str, Tensor]
    origin: Origin

    def modules(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Returns A [r, in] and B [out, r] of each module that is changed, in order."""
        names = sorted(name for name in self.tensors if name.endswith(_A))
        return {
            name.removeprefix(PREFIX).removesuffix(_A): (
                self.tensors[name],
                self.tensors[name.replace("lora_A", "lora_B")],
            )
            for name in names
        }

    @property
    def changed_weights(self) -> int:
        """Number of weights in the rows that it changes."""
        rows = self.origin.reduction.rows if self.origin.reduction else {}
        return sum(
            len(rows.get(name, range(len(a)))) * a.shape[1]
            for name, (a, _) in self.modules().items()
        )


def read_adapter(folder: Path) -> AdapterFile:
    """Reads an adapter.

    Raises:
        ModelError: it is not there, cut off, changed, or nasalign did not write it.
    """
    path, config = folder / FILE, folder / CONFIG
    try:
        with safe_open(path, framework="pt") as file:
            origin = Origin.of(file.metadata())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        text = config.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(_absence(folder)) from error
    except (SafetensorError, OSError, AttributeError, LookupError, RuntimeError) as error:
        reason = shortened(" ".join(str(error).split()))
        raise ModelError(f"The adapter {path} is broken and cannot be read: {reason}.") from error
    try:
        modules = json.loads(text)["target_modules"]
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise ModelError(f"{config} is broken; make the adapter again.") from error
    if origin is None:
        raise ModelError(f"{path} was not written by nasalign.")
    named = sorted({name.removeprefix(PREFIX).rsplit(".", 2)[0] for name in tensors})
    if origin.content not in ("", _digest_of(tensors)) or named != modules:
        raise ModelError(f"The adapter {folder} is not what nasalign wrote; make it again.")
    return AdapterFile(tensors, origin)


def write_adapter(
    folder: Path, config: dict[str, Any], tensors: dict[str, Tensor], origin: Origin
) -> None:
    """Writes an adapter: both of its files, or none.

    Args:
        folder: not there yet, or an adapter that is replaced.
        config: of PEFT.
        tensors: by PEFT's names.
        origin: what it was made from; the digest of the tensors is filled in.

    Raises:
        NasAlignError: the folder holds something else, or cannot be written.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / CONFIG).exists():
        raise NasAlignError(f"The folder {folder} holds no adapter to replace; choose another.")
    made_from = replace(origin, content=_digest_of(tensors))
    make_subfolder(folder.parent)
    with replacing(folder) as whole:
        whole.mkdir()
        write_json(whole / CONFIG, config)
        write_tensors(whole / FILE, tensors, made_from.metadata())


def _absence(folder: Path) -> str:
    if (folder / "adapter_model.bin").exists():
        return (
            f"The adapter in {folder} is a pickle (adapter_model.bin), which can run code; only "
            "safetensors are read, and only what nasalign has written."
        )
    half = (folder / FILE).exists() or (folder / CONFIG).exists()
    return f"There is no{' whole' if half else ''} adapter in {folder}."


def _digest_of(tensors: dict[str, Tensor]) -> str:
    """A SHA-256 over tensors by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
