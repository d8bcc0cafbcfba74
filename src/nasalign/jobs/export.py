"""Writing a run's result as a model or as an adapter, each with its card."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from nasalign.alignment.adapter import load_adapter
from nasalign.alignment.adapter_file import Reduction, open_adapter, reduction_of
from nasalign.alignment.rank import reduce_adapter
from nasalign.alignment.rounding import Rounding
from nasalign.errors import NasAlignError
from nasalign.files import beside, read_json, write_text
from nasalign.jobs.evaluate import adapter_folder
from nasalign.jobs.job import Job
from nasalign.models.loading import DTYPES, choose_dtype
from nasalign.reporting.card import FILE, Form, model_card


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        target: where.
        form: ``"merged"`` or ``"adapter"``.
        dtype: of the weights.
        rounding: what is left of the change, where the weights were rounded to another dtype.
        reduction: what the adapter lacks of the exact one, where it was reduced.
    """

    target: Path
    form: Form
    dtype: str
    rounding: Rounding | None = None
    reduction: Reduction | None = None

    def as_dict(self) -> dict[str, Any]:
        """Returns it as JSON takes it."""
        return {
            "target": str(self.target),
            "format": self.form,
            "dtype": self.dtype,
            "rounding": asdict(self.rounding) if self.rounding else None,
            "reduction": asdict(self.reduction) if self.reduction else None,
        }


def export_job(
    job: Job,
    folder: Path,
    target: Path,
    form: Form,
    dtype: str | None = None,
    rank: int | None = None,
) -> Exported:
    """Writes a run's result as a merged checkpoint or as a copy of its adapter, with ``README.md``.

    The target is there whole or not at all.

    Args:
        job: the model; an empty name takes the run's own, no dtype that in which it was tuned.
        folder: the run directory.
        target: a folder that is not there yet.
        form: ``"merged"`` or ``"adapter"``.
        dtype: of a checkpoint's weights; that in which it was tuned unless given.
        rank: of an adapter's modules at most; it is exact unless given.

    Raises:
        NasAlignError: the run, its adapter or its model is not there, the target is, the options
            do not fit each other, or it cannot be written.
    """
    if target.exists() or target.is_symlink():
        raise NasAlignError(f"The folder {target} is there already; choose another.")
    adapter = adapter_folder(folder)
    if not adapter.is_dir():
        raise NasAlignError(f"There is no adapter in {folder}.")
    _check(job, form, dtype, rank)
    run = next((path for path in (folder, adapter.parent) if (path / "run.json").exists()), None)
    job = replace(job, model=job.model or _base(run, adapter))
    if form == "adapter":
        with _place(target) as place:
            if rank:
                reduce_adapter(adapter, place, rank)
            else:
                shutil.copytree(adapter, place)
            write_text(place / FILE, model_card(run, place, form, job.model))
            return Exported(target, form, "float32", reduction=reduction_of(place))
    with open_adapter(adapter) as (_, origin):
        model, tokenizer, _ = replace(job, dtype=job.dtype or origin.dtype or None).open()
    rounding = _align(model, adapter, dtype)
    card = model_card(run, adapter, form, job.model, rounding)
    with _place(target) as place:
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)
        write_text(place / FILE, card)
    return Exported(
        target, form, str(model.dtype).removeprefix("torch."), rounding, reduction_of(adapter)
    )


def _check(job: Job, form: Form, dtype: str | None, rank: int | None) -> None:
    """Refuses options that do not fit each other, before anything is loaded."""
    if rank and form != "adapter":
        raise NasAlignError("--rank is for --format adapter; a checkpoint holds the whole change.")
    if dtype is None:
        return
    choose_dtype(dtype, torch.device("cpu"))
    if form == "adapter":
        raise NasAlignError("--dtype is for a checkpoint; an adapter keeps its change in float32.")
    if job.quantize:
        raise NasAlignError("Quantised weights have a dtype of their own; leave out --dtype.")


def _align(model: PreTrainedModel, folder: Path, dtype: str | None) -> Rounding | None:
    """Applies an adapter to its model, and rounds all of it to a dtype; changes the model.

    Raises:
        NasAlignError: the adapter is not the model's, nothing of its change outlives the rounding,
            or the dtype cannot hold a weight.
    """
    adapter = load_adapter(folder, model)
    adapter.apply(model)
    if dtype is None or DTYPES[dtype] == model.dtype:
        return None
    rounding = Rounding.of(adapter, DTYPES[dtype])
    if not rounding.entries:
        raise NasAlignError(f"Nothing of the change is left in {dtype}; choose a finer dtype.")
    model.to(DTYPES[dtype])
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise NasAlignError(f"{dtype} cannot hold all of {name}; choose bfloat16 or float32.")
    return rounding


@contextmanager
def _place(target: Path) -> Iterator[Path]:
    """Yields where to write a folder that is renamed to the target at the end.

    Raises:
        NasAlignError: it cannot be written; nothing of it is left.
    """
    try:
        with beside(target) as workplace:
            place = workplace / target.name
            yield place
            place.rename(target)
    except Exception as error:
        # The tokenizers library raises a bare Exception for what the system refuses.
        if not isinstance(error, OSError | SafetensorError) and "os error" not in str(error):
            raise
        first = error.args[0][0][2] if isinstance(error, shutil.Error) else error
        reason = getattr(first, "strerror", None) or str(first)
        raise NasAlignError(
            f"The export cannot be written to {target}: {reason}; nothing was left there."
        ) from error


def _base(run: Path | None, adapter: Path) -> str:
    """The name of the base model that the run, or else the adapter, gives."""
    if run:
        return str(read_json(run / "run.json")["model"]["source"])
    return str(read_json(adapter / "adapter_config.json")["base_model_name_or_path"])
