"""What an evaluation asks, written as a task of lm-evaluation-harness."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasalign.config import Settings
from nasalign.data.records import BinaryExample
from nasalign.data.splits import Splits
from nasalign.errors import NasAlignError
from nasalign.harness.tasks import Task
from nasalign.models import processes
from nasalign.session import Session


@dataclass(frozen=True)
class HarnessTask:
    """A task in a folder, for the command ``lm_eval``."""

    task: Task
    folder: Path

    @staticmethod
    def check_settings(settings: Settings) -> None:
        """Refuse settings that a task cannot have, before a model is loaded.

        Raises:
            NasAlignError: the decoder is not ``logits``.
        """
        if settings.decoder != "logits" or settings.scenario == "cot":
            raise NasAlignError(
                "A task of lm_eval compares the probabilities of answers: take the decoder logits, "
                "and another scenario than cot."
            )

    @classmethod
    def write(
        cls,
        session: Session,
        splits: Splits,
        examples: Sequence[BinaryExample],
        shots: Sequence[BinaryExample],
        folder: Path,
        overwrite: bool,
    ) -> "HarnessTask":
        """Write the examples with their prompts for this model.

        Raises:
            NasAlignError: lm_eval would read a prompt differently, or the task cannot be written.
        """
        scenario = session.settings.scenario
        how = "" if scenario == "plain" else f"_{scenario}"
        task = Task.of(splits.name + how, list(examples), session.builder(shots, scenario))
        if processes.is_first():
            part = "all of it" if splits.part == "all" else f"its {splits.part} split"
            name = Path(session.model.name_or_path).name
            task.check(folder, overwrite)
            task.write(
                folder,
                f"{len(examples)} examples of {splits.name} ({part}), with prompts for {name}",
            )
        return cls(task, folder)

    def described(self, session: Session, adapter: Path | None) -> dict[str, Any]:
        """Return the name of the task, its folder, and the command that evaluates the same model.

        Args:
            session: the model.
            adapter: the folder of its adapter, or None.
        """
        source = session.run.facts["model"]["source"]
        name = "MODEL" if source.endswith(".gguf") else session.model.name_or_path
        peft = f",peft={adapter}" if adapter else ""
        dtype = str(session.model.dtype).removeprefix("torch.")
        arguments = f"pretrained={name}{peft},dtype={dtype},{self.task.arguments}"
        words = ["lm_eval", "--model", "hf", "--model_args", arguments]
        command = shlex.join(
            [*words, "--include_path", str(self.folder), "--tasks", self.task.name]
        )
        return {"task": self.task.name, "folder": str(self.folder), "command": command}
