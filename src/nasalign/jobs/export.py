"""Writing a run's result as a model or as an adapter, each with its card."""

import shutil
from dataclasses import replace
from pathlib import Path

from nasalign.alignment.adapter import load_adapter, read_adapter
from nasalign.errors import NasAlignError
from nasalign.files import make_subfolder, read_json, replacing, write_text
from nasalign.jobs.evaluate import adapter_folder
from nasalign.jobs.job import Job
from nasalign.reporting.card import FILE, Form, model_card


def export_job(job: Job, folder: Path, target: Path, form: Form) -> None:
    """Writes a run's result as a merged checkpoint or as a copy of its adapter, with ``README.md``.

    Args:
        job: the model; an empty name takes the run's own.
        folder: the run directory.
        target: a folder that is not there yet.
        form: ``"merged"`` or ``"adapter"``.

    Raises:
        NasAlignError: the run, its adapter or its model is not there, or the target is.
    """
    if target.exists():
        raise NasAlignError(f"The folder {target} is there already; choose another.")
    adapter = adapter_folder(folder)
    if not adapter.is_dir():
        raise NasAlignError(f"There is no adapter in {folder}.")
    read_adapter(adapter)  # before a model is loaded
    run = next((path for path in (folder, adapter.parent) if (path / "run.json").exists()), None)
    name = job.model or _base(run, adapter)
    card = model_card(run, adapter, form, name)
    if form == "merged":
        model, tokenizer, _ = replace(job, model=name).open()
        load_adapter(adapter, model).apply(model)
    make_subfolder(target.parent)
    with replacing(target) as whole:  # half a checkpoint would load, with random weights
        if form == "adapter":
            shutil.copytree(adapter, whole)
        else:
            model.save_pretrained(whole)
            tokenizer.save_pretrained(whole)
        write_text(whole / FILE, card)


def _base(run: Path | None, adapter: Path) -> str:
    """The name of the base model that the run, or else the adapter, gives."""
    if run:
        return str(read_json(run / "run.json")["model"]["source"])
    return str(read_json(adapter / "adapter_config.json")["base_model_name_or_path"])
