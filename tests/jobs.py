"""Jobs as the commands make them, from plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nasalign.commands.job import Job
from nasalign.commands.options import DataOptions, LoadOptions, OutOptions
from nasalign.run import Run

QUICK: dict[str, Any] = {  # settings of a job that is over soon
    "sides": "both",
    "epochs": 2,
    "n": 3,
    "joint_heads": 3,
    "k": 8,
    "learning_rate": 1e-3,
    "bootstrap_samples": 50,
    "answer_tokens": 6,
    "side_effect_questions": 5,
}


def make(
    model: str | Path = "",
    data: str | Path = "facts",
    *,
    command: str = "align",
    probing_data: str | Path | None = None,
    sources: Mapping[str, Sequence[Path]] | None = None,
    folder: Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    changes: Mapping[str, Any] | None = None,
    further: Sequence[str | Path] = (),
    run: Run | None = None,
    how: Mapping[str, Any] | None = None,
    **load: Any,
) -> Job:
    files = [f"{name}={path}" for name, paths in (sources or {}).items() for path in paths]
    probing = None if probing_data is None else str(probing_data)
    return Job(
        str(model),
        command,
        data=DataOptions(str(data), probing, files, **(how or {})),
        load=LoadOptions(**load),
        out=OutOptions(folder, overwrite),
        further=[str(one) for one in further],
        shortcuts=changes or {},
        resume=resume,
        run=run or Run(),
    )


def again(job: Job, folder: Path | None, **changes: Any) -> Job:
    """The same job in a folder, with a run of its own."""
    out = OutOptions(folder, changes.pop("overwrite", False))
    return replace(job, out=out, run=Run(), **changes)
