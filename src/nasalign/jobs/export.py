"""Writing a run's result as a model or as an adapter, each with its card."""

import shutil
from dataclasses import replace
from pathlib import Path

from nasalign.alignment.adapter import load_adapter
from nasalign.errors import NasAlignError
from nasalign.files import read_json, write_text
from nasalign.jobs.evaluate import adapter_folder
from nasalign.jobs.job import Job
from nasalign.reporting.card import FILE, Form, model_card
from nasalign.reporting.report.files import as_written


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
    if target.exists() or target.is_symlink():
        raise NasAlignError(f"The folder {target} is there already; choose another.")
    adapter = adapter_folder(folder)
    if not adapter.is_dir():
        raise NasAlignError(f"There is no adapter in {folder}.")
    run = next((path for path in (folder, adapter.parent) if (path / "run.json").exists()), None)
    name = job.model or _base(run, adapter)
    card = model_card(run, adapter, form, name)
    if form == "adapter":
        shutil.copytree(adapter, target)
    else:
        model, tokenizer, _ = replace(job, model=name).open()
        load_adapter(adapter, model).apply(model)
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
    write_text(target / FILE, card)


def _base(run: Path | None, adapter: Path) -> str:
    """The name of the base model that the run, or else the adapter, gives."""
    with as_written(run or adapter):
        if run:
            return str(read_json(run / "run.json")["model"]["source"])
        return str(read_json(adapter / "adapter_config.json")["base_model_name_or_path"])
