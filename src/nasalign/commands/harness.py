"""``nasalign evaluate --harness-out``: what is evaluated, as a task of lm-evaluation-harness."""

import shlex
from pathlib import Path

from nasalign.config import Settings
from nasalign.data.records import BinaryExample
from nasalign.data.splits import Splits
from nasalign.errors import NasAlignError
from nasalign.harness.tasks import Task
from nasalign.models import processes
from nasalign.session import Session


def check_task(settings: Settings) -> None:
    """Refuse settings by which no task can ask, before a model is loaded.

    Raises:
        NasAlignError: the answer is generated: a task compares probabilities.
    """
    if settings.decoder != "logits" or settings.scenario == "cot":
        raise NasAlignError(
            "A task of lm_eval compares the probabilities of answers: take the decoder logits, "
            "and another scenario than cot."
        )


def write_task(
    session: Session,
    splits: Splits,
    examples: list[BinaryExample],
    shots: list[BinaryExample],
    folder: Path,
    overwrite: bool,
    adapter: Path | None,
) -> dict[str, str]:
    """Write the examples that are going to be evaluated as a task of lm_eval.

    Args:
        session: the model, the settings and the run.
        splits: the data.
        examples: as they are asked.
        shots: few-shot examples, or none.
        folder: where the task is written.
        overwrite: whether it may be there already.
        adapter: the folder of the model's adapter, or None.

    Returns:
        The name of the ``task``, its ``folder``, and the ``command`` of lm_eval that evaluates the
        same model.

    Raises:
        NasAlignError: lm_eval would read a prompt differently, or the task cannot be written.
    """
    model, scenario = session.model, session.settings.scenario
    how = "" if scenario == "plain" else f"_{scenario}"
    builder = session.builder(shots, scenario)
    task = Task.of(splits.name + how, examples, builder)
    if processes.is_first():
        part = "all of it" if splits.part == "all" else f"its {splits.part} split"
        for_model = f"with prompts for {Path(model.name_or_path).name}"
        title = f"{len(examples)} examples of {splits.name} ({part}), {for_model}"
        task.write(folder, title, overwrite)
    source = session.run.facts["model"]["source"]
    name = "MODEL" if source.endswith(".gguf") else model.name_or_path
    peft = f",peft={adapter}" if adapter else ""
    dtype = str(model.dtype).removeprefix("torch.")
    words = ["lm_eval", "--model", "hf", "--include_path", str(folder), "--tasks", task.name]
    words[3:3] = ["--model_args", f"pretrained={name}{peft},dtype={dtype},{task.arguments}"]
    return {"task": task.name, "folder": str(folder), "command": shlex.join(words)}
