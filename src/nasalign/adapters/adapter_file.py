"""The files of an adapter: PEFT's tensors and configuration, with nasalign's own metadata."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn.functional import pad

from nasalign.adapters.adapter_checks import (
    PREFIX,
    A,
    B,
    Changes,
    changes_of,
    config_fault,
    peft_config,
    real_rows,
    reduction_fault,
)
from nasalign.adapters.scaling import Calibration
from nasalign.errors import ModelError, NasAlignError, foreign_adapter, shortened
from nasalign.io.files import tensor_digest, write_json, write_tensors
from nasalign.io.storage import make_subfolder, replacing
from nasalign.models.merging import CONFIG, FILE, OURS
from nasalign.models.names import public_name
from nasalign.run import adapter_folder


@dataclass(frozen=True)
class Reduction:
    """How an adapter of low rank differs from the exact one: not at all if it was tuned so."""

    rank: int  # of every module
    error: float  # norm of the missing part over that of the exact change, of all modules together
    modules: dict[str, float]  # the same for each module
    rows: dict[str, list[int]]  # rows of each module that the exact adapter changes, ascending


@dataclass(frozen=True)
class Origin:
    """What an adapter was made from; what has a default is not in the first versions' files."""

    base: str  # ``models.loading.fingerprint`` of the untouched model
    rows: str  # SHA-256 of the untouched rows that the adapter changes
    dtype: str = ""  # in which it was tuned
    reduction: Reduction | None = None  # None for an exact adapter
    content: str = ""  # SHA-256 of the adapter's tensors
    calibration: Calibration | None = None  # of the untouched and the aligned model

    @property
    def lacking(self) -> Reduction | None:
        """The reduction, where it lacks something; nasa+ tunes changes of low rank."""
        return self.reduction if self.reduction and self.reduction.error else None

    def metadata(self) -> dict[str, str]:
        """Return the metadata of the safetensors file."""
        return {OURS: json.dumps(asdict(self), sort_keys=True)}

    @classmethod
    def of(cls, metadata: dict[str, str] | None) -> "Origin | None":
        """Read the metadata of a safetensors file; None if nasalign did not write it."""
        text = (metadata or {}).get(OURS)
        if text is None:
            return None
        try:
            if not text.startswith("{"):  # as the first versions wrote it
                base, rows = text.split()
                return cls(base, rows)
            return TypeAdapter(cls).validate_json(text, strict=True)
        except ValueError:  # pydantic's too
            return None


@dataclass(frozen=True)
class AdapterFile:
    """The contents of an adapter's folder; an exact one without the zeros that pad the rank."""

    changes: Changes
    origin: Origin
    base_model: str  # as the configuration says
    rank: int  # of every module, with the padding

    @property
    def rows(self) -> dict[str, list[int]]:
        """The rows of each module that it changes, ascending."""
        if self.origin.reduction:
            return self.origin.reduction.rows
        return {module: b.argmax(dim=0).tolist() for module, (_, b) in self.changes.items()}

    @property
    def changed_weights(self) -> int:
        """Number of weights that it changes: in its rows, and if tuned so in its columns."""
        tuned_so = self.origin.reduction and not self.origin.lacking
        columns = {
            name: int(a.any(dim=0).sum()) if tuned_so else a.shape[1]
            for name, (a, _) in self.changes.items()
        }
        return sum(len(rows) * columns[name] for name, rows in self.rows.items())


def read_adapter(folder: Path) -> AdapterFile:
    """Read an adapter that nasalign wrote, now or in an earlier version.

    Raises:
        ModelError: it is missing, cut off, modified, or not written by nasalign; or PEFT would
            compute another change from it than nasalign does.
    """
    path, config = folder / FILE, folder / CONFIG
    if not (path.is_file() and config.is_file()):
        raise ModelError(_absence(folder))
    try:
        with safe_open(path, framework="pt") as file:
            origin = Origin.of(file.metadata())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        text = config.read_bytes()
    except (SafetensorError, OSError, AttributeError, LookupError, RuntimeError) as error:
        reason = shortened(" ".join(str(error).split()))
        raise ModelError(f"The adapter {path} is broken and cannot be read: {reason}.") from error
    try:
        given = json.loads(text)
        base_model = str(given["base_model_name_or_path"])
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise ModelError(f"{config} is broken; make the adapter again.") from error
    if origin is None:
        raise foreign_adapter(path, given)
    changes, fault = changes_of(tensors)
    if origin.content not in ("", tensor_digest(tensors)):
        fault = "its tensors were changed"
    fault = fault or config_fault(given, changes)
    rank = max((len(a) for a, _ in changes.values()), default=0)
    if not fault and origin.reduction:
        fault = reduction_fault(changes, origin.reduction.rank, origin.reduction.rows)
    elif not fault:
        changes, fault = real_rows(changes)
    if fault:
        raise ModelError(f"The adapter {folder} is not what nasalign wrote: {fault}.")
    return AdapterFile(changes, origin, base_model, rank)


def read_calibration(folder: str | Path) -> Calibration | None:
    """Return the calibration of a run directory or of an adapter's folder.

    Before it is used, ask it whether it ``fits`` the settings of the prompt.

    Returns:
        None where the run kept no head, or was made by a version that fitted none.

    Raises:
        ModelError: there is an adapter, and it is broken or not written by nasalign.
        StorageError: the run directory holds a link.
    """
    place = adapter_folder(Path(folder))
    return read_adapter(place).origin.calibration if place.is_dir() else None


def write_adapter(folder: Path, changes: Changes, origin: Origin, base_model: str) -> None:
    """Write an adapter: both of its files, or none; an adapter in the folder is replaced.

    All modules get the rank of the largest, padded with zeros. Readers that know only one rank
    (llama.cpp, Ollama) then scale the change as PEFT does.

    Raises:
        NasAlignError: the folder holds something else, or cannot be written.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / CONFIG).exists():
        raise NasAlignError(f"The folder {folder} holds no adapter to replace; choose another.")
    tensors, config = peft_form(changes, base_model)
    made_from = replace(origin, content=tensor_digest(tensors))
    write_peft(folder, tensors, config, made_from.metadata())


def peft_form(changes: Changes, base_model: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return A and B of each module under PEFT's names, and the configuration.

    Those of a lower rank than the largest are padded with zeros.
    """
    rank = max(len(a) for a, _ in changes.values())
    tensors = {}
    for module, (a, b) in changes.items():
        tensors[f"{PREFIX}{module}{A}"] = pad(a, (0, 0, 0, rank - len(a))).contiguous()
        tensors[f"{PREFIX}{module}{B}"] = pad(b, (0, rank - len(a))).contiguous()
    return tensors, peft_config(changes, rank, public_name(base_model))


def write_peft(
    folder: Path,
    tensors: dict[str, Tensor],
    config: dict[str, Any],
    metadata: dict[str, str] | None = None,
) -> None:
    """Write tensors and configuration of an adapter: both files, or none."""
    make_subfolder(folder.parent)
    with replacing(folder) as whole:
        whole.mkdir()
        write_json(whole / CONFIG, config)
        write_tensors(whole / FILE, tensors, metadata)


def _absence(folder: Path) -> str:
    if (folder / "adapter_model.bin").exists():
        return (
            f"The adapter in {folder} is a pickle (adapter_model.bin), which can run code; only "
            "safetensors are read, and only what nasalign has written."
        )
    half = (folder / FILE).exists() or (folder / CONFIG).exists()
    return f"There is no{' whole' if half else ''} adapter in {folder}."
