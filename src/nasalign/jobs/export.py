"""Writing a run's result as a model or as an adapter."""

import shutil
from dataclasses import replace
from pathlib import Path

from nasalign.alignment.adapter import load_adapter
from nasalign.errors import NasAlignError
from nasalign.files import read_json
from nasalign.jobs.evaluate import adapter_folder
from nasalign.jobs.job import Job


def export_job(job: Job, folder: Path, target: Path, form: str) -> None:
    """Writes a run's result as a merged checkpoint or as a copy of its adapter.

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
    if form == "adapter":
        shutil.copytree(adapter, target)
        return
    name = job.model or read_json(folder / "run.json")["model"]["source"]
    model, tokenizer, _ = replace(job, model=name).open()
    load_adapter(adapter, model).apply(model)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
