"""What an evaluation asks, as a task of lm-evaluation-harness: left for it, and run beside ours."""

import shlex
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nasalign.config import Settings
from nasalign.data.records import BinaryExample
from nasalign.data.splits import Splits
from nasalign.errors import NasAlignError
from nasalign.evaluation.evaluation import Evaluation
from nasalign.evaluation.examples import Bench
from nasalign.harness.tasks import Task
from nasalign.models import processes
from nasalign.prompts.builder import PromptBuilder


@dataclass(frozen=True)
class Harness:
    """What is wanted of lm-evaluation-harness.

    Attributes:
        run: whether its ``lm_eval`` evaluates the loaded model too.
        folder: where the task is left for the command ``lm_eval``, or None.
        overwrite: whether the task may be there already.
    """

    run: bool = False
    folder: Path | None = None
    overwrite: bool = False

    @property
    def wanted(self) -> bool:
        """Whether there is anything to do."""
        return self.run or self.folder is not None

    def check(self, settings: Settings) -> None:
        """Refuses what cannot be done, before a model is loaded.

        Raises:
            NasAlignError: lm_eval is not installed, or the decoder is not ``logits``.
        """
        if self.wanted and (settings.decoder != "logits" or settings.scenario == "cot"):
            raise NasAlignError(
                "A task of lm_eval compares the probabilities of answers: take the decoder logits, "
                "and another scenario than cot."
            )
        if self.run and processes.count() > 1:
            raise NasAlignError(
                "Several processes cannot share lm_eval's part; evaluate with one, or write the "
                "task with --harness-out alone."
            )
        if self.run and find_spec("lm_eval") is None:
            raise NasAlignError(
                "The option --harness needs lm_eval, which is not installed: "
                'pip install "nasalign[harness]".'
            )

    def task(self, bench: Bench, splits: Splits, examples: list[BinaryExample]) -> Task:
        """Makes the task of what a bench is going to evaluate, and leaves it in the folder.

        Raises:
            NasAlignError: lm_eval would read a prompt differently, or the task cannot be written.
        """
        settings = bench.settings
        how = "" if settings.scenario == "plain" else f"_{settings.scenario}"
        shots = bench.shots(splits)
        builder = PromptBuilder.of(bench.tokenizer, settings, shots, settings.scenario)
        task = Task.of(splits.name + how, examples, builder)
        if self.folder and processes.is_first():
            task.check(self.folder, self.overwrite)
            task.write(self.folder, _title(bench, splits, len(examples)))
        return task

    def beside(
        self, task: Task, bench: Bench, evaluation: Evaluation, adapter: Path | None
    ) -> dict[str, Any]:
        """Runs the task if that is wanted; returns how it compares, and where it was left.

        Args:
            task: what ``task`` made.
            bench: the model, as it was evaluated.
            evaluation: ours.
            adapter: the folder of its adapter, or None.

        Returns:
            ``task``; ``folder`` and ``command`` where it was left; what ``Outcome.beside`` says
            where it was run.
        """
        found: dict[str, Any] = {"task": task.name}
        if self.folder:
            command = _command(task, bench, self.folder, adapter)
            found |= {"folder": str(self.folder), "command": command}
        if self.run and self.folder:
            found |= _run(task, bench, evaluation, self.folder)
        elif self.run:
            with tempfile.TemporaryDirectory(prefix="nasalign-") as passing:
                task.write(Path(passing), "for this evaluation alone")
                found |= _run(task, bench, evaluation, Path(passing))
        return found


def _run(task: Task, bench: Bench, evaluation: Evaluation, folder: Path) -> dict[str, Any]:
    n = len(task.documents)
    with bench.run.stage("lm_eval", "Evaluating through lm_eval", n) as done:
        from nasalign.harness.running import run_task  # takes seconds, and only this needs it

        size = bench.settings.batch_size
        outcome = run_task(bench.model, bench.tokenizer, task, folder, size, done)
    return outcome.beside(evaluation)


def _title(bench: Bench, splits: Splits, n: int) -> str:
    part = "all of it" if splits.part == "all" else f"its {splits.part} split"
    name = Path(bench.model.name_or_path).name
    return f"{n} examples of {splits.name} ({part}), with prompts for {name}"


def _command(task: Task, bench: Bench, folder: Path, adapter: Path | None) -> str:
    """The command that evaluates the same model."""
    source = bench.run.facts["model"]["source"]
    name = "MODEL" if source.endswith(".gguf") else bench.model.name_or_path
    peft = f",peft={adapter}" if adapter else ""
    dtype = str(bench.model.dtype).removeprefix("torch.")
    arguments = f"pretrained={name}{peft},dtype={dtype},{task.arguments}"
    words = ["lm_eval", "--model", "hf", "--model_args", arguments]
    return shlex.join([*words, "--include_path", str(folder), "--tasks", task.name])
