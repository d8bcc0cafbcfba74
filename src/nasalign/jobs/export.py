"""Writing a run's result as a model or as an adapter, each with its card."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError

from nasalign.alignment.adapter import load_adapter
from nasalign.errors import NasAlignError
from nasalign.files import beside, read_json, write_text
from nasalign.jobs.evaluate import adapter_folder
from nasalign.jobs.job import Job
from nasalign.reporting.card import FILE, Form, model_card


def export_job(job: Job, folder: Path, target: Path, form: Form) -> None:
    """Writes a run's result as a merged checkpoint or as a copy of its adapter, with ``README.md``.

    The target is there whole or not at all.

    Args:
        job: the model; an empty name takes the run's own.
        folder: the run directory.
        target: a folder that is not there yet.
        form: ``"merged"`` or ``"adapter"``.

    Raises:
        NasAlignError: the run, its adapter or its model is not there, the target is, or it cannot
            be written.
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
        with _place(target) as place:
            shutil.copytree(adapter, place)
            write_text(place / FILE, card)
        return
    model, tokenizer, _ = replace(job, model=name).open()
    load_adapter(adapter, model).apply(model)
    with _place(target) as place:
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)
        write_text(place / FILE, card)


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
