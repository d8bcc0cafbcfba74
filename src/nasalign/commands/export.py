"""``nasalign export``: a checkpoint, an adapter or a GGUF file, each with its card."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from nasalign.adapters.adapter_file import AdapterFile, read_adapter
from nasalign.adapters.rank import vllm_text
from nasalign.commands.app import command
from nasalign.commands.converter import find_converter, no_converter
from nasalign.commands.export_adapter import export_adapter
from nasalign.commands.export_files import Exported, card_path, export_model
from nasalign.commands.job import Job
from nasalign.commands.options import AsJson, LoadOptions, grouped
from nasalign.commands.push import check_push, upload
from nasalign.errors import NasAlignError, shortened
from nasalign.models.aliases import EMBEDDED_MODELS
from nasalign.models.loading import choose_dtype
from nasalign.models.names import hub_id
from nasalign.reporting.card import ADAPTERS, GGUF, SCORED, Form, score_texts
from nasalign.reporting.console_tables import (
    columns_table,
    copied_texts,
    reduction_rows,
    reduction_text,
    rounding_text,
)
from nasalign.run import adapter_folder, run_of
from nasalign.run_file import as_written, read_run


@dataclass(frozen=True)
class WrittenOptions(LoadOptions):
    """How the base of an export is loaded, and the dtype that is written."""

    dtype: Annotated[
        str | None,
        typer.Option(
            help="Of the checkpoint that is written: float32, bfloat16 or float16; unless given, "
            "that in which it was tuned, so that nothing is rounded."
        ),
    ] = None


@grouped
def export(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory of align.")],
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="A folder that is not there, or a GGUF file.")
    ],
    written: WrittenOptions,
    form: Annotated[
        Form,
        typer.Option(
            "--format",
            help="A whole checkpoint, the PEFT adapter alone, or a GGUF file of either by "
            "llama.cpp's own scripts, from the checkout that LLAMA_CPP names or from the PATH; for "
            "servers that score texts, a cross-encoder of sentence-transformers or a classifier.",
        ),
    ] = "merged",
    rank: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Reduce an adapter to this rank, the same for every module, for servers that cap "
            "it, as vLLM does at 512; exact unless given.",
        ),
    ] = None,
    activated: Annotated[
        bool,
        typer.Option(
            "--activated",
            help="Let an adapter act from the prompt's own instruction on alone (activated LoRA), "
            "so that every other prompt is answered by the untouched model; for PEFT, llama.cpp "
            "and vLLM.",
        ),
    ] = False,
    push: Annotated[
        str | None,
        typer.Option(
            metavar="REPO",
            help="Then upload it with its card to this repository of the Hugging Face hub "
            "(owner/name), which is made if it is not there.",
        ),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Make that repository a private one.")
    ] = False,
    model: Annotated[
        str, typer.Option(help="The base model; the one named in the run unless given.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Write a corrected model that loads without nasalign."""
    with command(as_json) as (console, emit):
        if private and push is None:
            raise NasAlignError("--private is for --push REPO.")
        if push is not None:
            check_push(push)
        job = Job.of(console, "export", model, load=replace(written, dtype=None))
        done = export_job(job, run_folder, target, form, written.dtype, rank, activated)
        _show(console, done, form)
        pushed = upload(done.target, done.files, push, private) if push else None
        if pushed:
            console.print(f"Uploaded to {pushed}.", highlight=False, soft_wrap=True)
        emit(
            {
                "target": str(done.target),
                "card": str(card_path(done.target, form)),
                "format": form,
                "dtype": done.dtype,
                "rounding": asdict(done.rounding) if done.rounding else None,
                "rank": done.rank,
                "reduction": asdict(done.reduction) if done.reduction else None,
                "scores": asdict(done.scores) if done.scores else None,
                "activation": asdict(done.activation) if done.activation else None,
                "copied": done.copied.names,
                "not_copied": done.copied.left_out,
                "pushed": pushed,
            }
        )


def _show(console: Console, done: Exported, form: Form) -> None:
    """Print what was written, and how near it is to the aligned model."""
    console.print(f"Written to {done.target}.", highlight=False, soft_wrap=True)
    said = copied_texts(done.copied)
    said += score_texts(done.scores, form) if done.scores else []
    said += [done.activation.sentence] if done.activation else []
    said += [vllm_text(done.rank)] if done.rank and form == "adapter" else []
    for text in said:
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    if done.reduction:
        header = ("module", "changed rows", "relative error")
        console.print(columns_table("", reduction_rows(done.reduction), header))
        console.print(reduction_text(done.reduction), highlight=False)
    if done.rounding:
        console.print(rounding_text(done.rounding), highlight=False)


def export_job(
    job: Job,
    folder: Path,
    target: Path,
    form: Form,
    dtype: str | None = None,
    rank: int | None = None,
    activated: bool = False,
) -> Exported:
    """Write a run's result with its card: all of it, or nothing.

    Args:
        job: the model; an empty name takes the run's own, but never to run its code.
        folder: the run directory, or an adapter's folder.
        target: a path that does not exist yet: a folder, or a GGUF file, whose ``.gguf`` may be
            left out.
        form: ``"merged"``, ``"adapter"``, ``"gguf"``, ``"gguf-adapter"``, ``"cross-encoder"`` or
            ``"classifier"``.
        dtype: of a checkpoint's weights; that in which it was tuned unless given.
        rank: of an adapter's modules at most; it is exact unless given.
        activated: whether an adapter is to act from the instruction of the prompt on alone.

    Raises:
        NasAlignError: the run, its adapter, its model or the converter is not there, the target is,
            the options do not fit each other, or it cannot be written.
    """
    if form in GGUF and target.suffix != ".gguf":
        target = target.with_name(f"{target.name}.gguf")
    for path in (target, card_path(target, form)):
        if path.exists() or path.is_symlink():
            raise NasAlignError(f"{path} is there already; choose another name.")
    adapter = adapter_folder(folder)
    if not adapter.is_dir():
        raise NasAlignError(f"There is no adapter in {folder}.")
    _check(job, form, dtype, rank, activated)
    file = read_adapter(adapter)
    tuned = file.origin.dtype
    if form in GGUF and not find_converter(form):
        options = {"--dtype": dtype, "--rank": rank, "--activated": activated}
        raise no_converter(job, folder, target, form, dtype or tuned, options)
    run = run_of(folder)
    load = replace(job.load, dtype=tuned or None)
    alone = form == "adapter" and not activated  # no model is loaded
    job = replace(job, model=job.model or _base(run, file, alone), load=load)
    if form in SCORED or activated:  # the prompt is that of the run
        job = replace(job, adapter=adapter)
    if form in ADAPTERS:
        return export_adapter(job, run, adapter, target, form, rank, activated)
    return export_model(job, run, adapter, target, form, dtype)


def _check(job: Job, form: Form, dtype: str | None, rank: int | None, activated: bool) -> None:
    """Refuse options that do not fit each other, before anything is loaded."""
    if job.load.trust_remote_code and not job.model:
        raise NasAlignError(
            "--trust-remote-code runs code of the base model, so say which that is with --model; "
            "the one that a run names may be a stranger's."
        )
    if rank and form not in ADAPTERS:
        raise NasAlignError(
            "--rank is for --format adapter or gguf-adapter; a checkpoint holds the whole change."
        )
    if activated and form not in ADAPTERS:
        raise NasAlignError("--activated is for an adapter; a checkpoint's change acts everywhere.")
    if form in (*GGUF, *SCORED) and job.load.quantize:
        scored = {"cross-encoder": "A cross-encoder", "classifier": "A classifier"}
        what = scored.get(form, "A GGUF file")
        raise NasAlignError(f"{what} is made from whole weights; leave out --quantize.")
    if dtype is None:
        return
    choose_dtype(dtype, torch.device("cpu"))
    if form in ADAPTERS:
        raise NasAlignError("--dtype is for a checkpoint; an adapter keeps its change in float32.")
    if job.load.quantize:
        raise NasAlignError("Quantised weights have a dtype of their own; leave out --dtype.")


def _base(run: Path | None, file: AdapterFile, alone: bool) -> str:
    """Return the name of the base model that the run, or else the adapter, gives.

    ``alone``: it is not to be loaded.
    """
    if run:
        with as_written(run):
            return str(read_run(run)["model"]["source"])
    # An adapter holds the last part of a path alone, and the embedded model is no hub's to load.
    embedded = file.base_model in [one.hub for one in EMBEDDED_MODELS.values()]
    if not alone and (embedded or not hub_id(file.base_model)):
        raise NasAlignError(
            f"The adapter alone does not say where its base model {shortened(file.base_model)} is; "
            f"give --model, a folder, a hub id or an alias ({', '.join(EMBEDDED_MODELS)}), or the "
            "run directory in place of the adapter."
        )
    return file.base_model
