"""Writing a run's result as a checkpoint, as an adapter or as a GGUF file, each with its card."""

from dataclasses import replace
from pathlib import Path

import torch
from transformers import PreTrainedModel

from nasalign.adapters.adapter import load_adapter
from nasalign.adapters.adapter_file import AdapterFile, read_adapter, write_adapter
from nasalign.adapters.rank import reduce_adapter
from nasalign.adapters.rounding import Rounding
from nasalign.commands.evaluate import adapter_folder, run_of
from nasalign.commands.export_files import Exported, card_path, files_in, whole
from nasalign.commands.export_gguf import convert, find_converter, no_converter
from nasalign.commands.job import Job
from nasalign.errors import NasAlignError, OutOfMemoryError, shortened
from nasalign.io.storage import write_text
from nasalign.models.embedded import EMBEDDED_MODELS
from nasalign.models.loading import DTYPES, choose_dtype
from nasalign.models.memory import explained
from nasalign.models.names import hub_id
from nasalign.reporting.card import Form, model_card
from nasalign.run_file import as_written, read_run


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
        job: the model; an empty name takes the run's own, but never to run its code.
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
    file = read_adapter(adapter)
    tuned = file.origin.dtype
    if form == "gguf" and not find_converter():
        raise no_converter(job, folder, target, dtype, tuned)
    run = run_of(folder)
    if not job.model:
        job = replace(job, model=_base(run, file, form))
    if form == "adapter":
        return _write_adapter(job.model, run, adapter, target, rank)
    job = replace(job, dtype=tuned or None)
    return _write_model(job, run, adapter, target, form, dtype)


def _write_adapter(
    base: str, run: Path | None, adapter: Path, target: Path, rank: int | None
) -> Exported:
    """Writes an adapter anew from what was read and checked, or reduces it to a rank."""
    with whole(target) as workplace:
        place = workplace / target.name
        if rank:
            reduce_adapter(adapter, place, rank, base)
        else:
            file = read_adapter(adapter)
            write_adapter(place, file.changes, file.origin, base)
        write_text(card_path(place, "adapter"), model_card(run, place, "adapter", base))
        reduction = read_adapter(place).origin.reduction
        return Exported(target, "adapter", "float32", files_in(place), reduction=reduction)


def _write_model(
    job: Job, run: Path | None, adapter: Path, target: Path, form: Form, dtype: str | None
) -> Exported:
    """Merges an adapter into its model, and writes that as a checkpoint or as a GGUF file."""
    try:
        model, tokenizer, _ = job.open()
    except OutOfMemoryError as error:  # it is loaded as it was tuned, so no dtype helps
        if job.device == "cpu":
            raise
        raise OutOfMemoryError(
            f"The model {job.model!r} does not fit into the memory of the device; take --device "
            "cpu."
        ) from error
    rounding = _align(model, adapter, dtype)
    written = str(model.dtype).removeprefix("torch.")
    card = model_card(run, adapter, form, job.model, rounding, target.name)
    converter = find_converter() if form == "gguf" else None
    with whole(target, *[card_path(target, form)] * bool(converter)) as workplace:
        place = workplace / target.name
        checkpoint = workplace / "checkpoint" if converter else place
        model.save_pretrained(checkpoint)
        tokenizer.save_pretrained(checkpoint)
        if converter:
            job.run.reporter.say(f"Converting it by {converter}.")
            convert(converter, checkpoint, place, written)
        write_text(card_path(place, form), card)
        files = files_in(place) if form == "merged" else ()
    reduction = read_adapter(adapter).origin.reduction
    return Exported(target, form, written, files, rounding, reduction)


def _check(job: Job, form: Form, dtype: str | None, rank: int | None) -> None:
    """Refuses options that do not fit each other, before anything is loaded."""
    if job.trust_remote_code and not job.model:
        raise NasAlignError(
            "--trust-remote-code runs code of the base model, so say which that is with --model; "
            "the one that a run names may be a stranger's."
        )
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
    ways = ["--device cpu"] if model.device.type != "cpu" else []
    with explained(f"turning the weights into {dtype} on {model.device}", ways=ways):
        model.to(DTYPES[dtype])
        for name, parameter in model.named_parameters():
            if not parameter.isfinite().all():
                raise NasAlignError(
                    f"{dtype} cannot hold all of {name}; choose bfloat16 or float32."
                )
    return rounding


def _base(run: Path | None, file: AdapterFile, form: Form) -> str:
    """The name of the base model that the run, or else the adapter, gives.

    Raises:
        NasAlignError: it is to be loaded, and only its last name is known.
    """
    if run:
        with as_written(run):
            return str(read_run(run)["model"]["source"])
    embedded = file.base_model in [one.hub for one in EMBEDDED_MODELS.values()]
    if form != "adapter" and (embedded or not hub_id(file.base_model)):
        raise NasAlignError(
            f"The adapter alone does not say where its base model {shortened(file.base_model)} is; "
            f"give --model, a folder, a hub id or an alias ({', '.join(EMBEDDED_MODELS)}), or the "
            "run directory in place of the adapter."
        )
    return file.base_model
