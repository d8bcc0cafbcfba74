"""Writing a run's result as a checkpoint, as an adapter or as a GGUF file, each with its card."""

import shutil
from dataclasses import replace
from pathlib import Path

import torch
from transformers import PreTrainedModel

from nasalign.alignment.adapter import load_adapter
from nasalign.alignment.adapter_file import read_adapter
from nasalign.alignment.rank import reduce_adapter
from nasalign.alignment.rounding import Rounding
from nasalign.errors import NasAlignError
from nasalign.files import read_json
from nasalign.jobs.evaluate import adapter_folder, run_of
from nasalign.jobs.export_files import Exported, card_path, whole
from nasalign.jobs.export_gguf import convert, find_converter, no_converter
from nasalign.jobs.job import Job
from nasalign.models.loading import DTYPES, choose_dtype
from nasalign.models.memory import explained
from nasalign.reporting.card import Form, model_card
from nasalign.reporting.report.files import as_written
from nasalign.storage import write_text


def export_job(
    job: Job,
    folder: Path,
    target: Path,
    form: Form,
    dtype: str | None = None,
    rank: int | None = None,
) -> Exported:
    """Writes a run's result with its card: all of it, or nothing.

    Args:
        job: the model; an empty name takes the run's own.
        folder: the run directory, or an adapter's folder.
        target: what is not there yet: a folder, or a GGUF file, whose ``.gguf`` may be left out.
        form: ``"merged"``, ``"adapter"`` or ``"gguf"``.
        dtype: of a checkpoint's weights; that in which it was tuned unless given.
        rank: of an adapter's modules at most; it is exact unless given.

    Raises:
        NasAlignError: the run, its adapter, its model or the converter is not there, the target is,
            the options do not fit each other, or it cannot be written.
    """
    if form == "gguf" and target.suffix != ".gguf":
        target = target.with_name(f"{target.name}.gguf")
    for path in (target, card_path(target, form)):
        if path.exists() or path.is_symlink():
            raise NasAlignError(f"{path} is there already; choose another name.")
    adapter = adapter_folder(folder)
    if not adapter.is_dir():
        raise NasAlignError(f"There is no adapter in {folder}.")
    _check(job, form, dtype, rank)
    tuned = read_adapter(adapter).origin.dtype
    if form == "gguf" and not find_converter():
        raise no_converter(job, folder, target, dtype, tuned)
    run = run_of(folder)
    job = replace(job, model=job.model or _base(run, adapter), dtype=tuned or None)
    if form == "adapter":
        return _write_adapter(job.model, run, adapter, target, rank)
    return _write_model(job, run, adapter, target, form, dtype)


def _write_adapter(
    base: str, run: Path | None, adapter: Path, target: Path, rank: int | None
) -> Exported:
    """Copies an adapter, or reduces it to a rank."""
    with whole(target) as workplace:
        place = workplace / target.name
        if rank:
            reduce_adapter(adapter, place, rank)
        else:
            shutil.copytree(adapter, place)
        write_text(card_path(place, "adapter"), model_card(run, place, "adapter", base))
        return Exported(
            target, "adapter", "float32", reduction=read_adapter(place).origin.reduction
        )


def _write_model(
    job: Job, run: Path | None, adapter: Path, target: Path, form: Form, dtype: str | None
) -> Exported:
    """Merges an adapter into its model, and writes that as a checkpoint or as a GGUF file."""
    model, tokenizer, _ = job.open()
    rounding = _align(model, adapter, dtype)
    written = str(model.dtype).removeprefix("torch.")
    exported = Exported(target, form, written, rounding, read_adapter(adapter).origin.reduction)
    card = model_card(run, adapter, form, job.model, rounding, target.name)
    converter = find_converter() if form == "gguf" else None
    with whole(target, *[exported.card] * bool(converter)) as workplace:
        place = workplace / target.name
        checkpoint = workplace / "checkpoint" if converter else place
        model.save_pretrained(checkpoint)
        tokenizer.save_pretrained(checkpoint)
        if converter:
            job.run.reporter.say(f"Converting it by {converter}.")
            convert(converter, checkpoint, place, written)
        write_text(card_path(place, form), card)
    return exported


def _check(job: Job, form: Form, dtype: str | None, rank: int | None) -> None:
    """Refuses options that do not fit each other, before anything is loaded."""
    if rank and form != "adapter":
        raise NasAlignError("--rank is for --format adapter; a checkpoint holds the whole change.")
    if form == "gguf" and job.quantize:
        raise NasAlignError("A GGUF file is made from whole weights; leave out --quantize.")
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
    with explained(f"turning the weights into {dtype}", model):
        model.to(DTYPES[dtype])
        for name, parameter in model.named_parameters():
            if not parameter.isfinite().all():
                raise NasAlignError(
                    f"{dtype} cannot hold all of {name}; choose bfloat16 or float32."
                )
    return rounding


def _base(run: Path | None, adapter: Path) -> str:
    """The name of the base model that the run, or else the adapter, gives."""
    with as_written(run or adapter):
        if run:
            return str(read_json(run / "run.json")["model"]["source"])
        return str(read_json(adapter / "adapter_config.json")["base_model_name_or_path"])
