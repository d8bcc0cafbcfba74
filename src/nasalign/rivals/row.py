"""A row of the comparison: fitting a rival, measuring it, and what that took."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nasalign.data.records import BinaryExample
from nasalign.errors import NasAlignError, NothingToFixError, StorageError
from nasalign.evaluation.evaluation import Evaluation, run_evaluation
from nasalign.evaluation.free_answers import FreeQuestions, effects_of
from nasalign.evaluation.metrics import METRICS, or_none
from nasalign.evaluation.side_effects import neutral_texts
from nasalign.io.files import read_jsonl
from nasalign.io.storage import make_subfolder, remove_folder
from nasalign.models.memory import explained
from nasalign.nasa.knowledge import Parametric
from nasalign.rivals.baselines import UNTOUCHED
from nasalign.rivals.cost import Cost, measuring, timing
from nasalign.rivals.rival import Fitted, Material, Rival
from nasalign.run import Run
from nasalign.run_file import as_written
from nasalign.session import Session

FOLDER = "compare"
"""Of the run directory: what rows leave, and what each writes while it is fitted."""


class Measured(NamedTuple):
    """A row that was measured."""

    row: dict[str, Any]  # of ``comparison.json``; its ``error`` is a sentence if it cannot be had
    answers: dict[str, list[dict[str, Any]]]  # to each set, as ``eval/SET.NAME.jsonl`` has them


@dataclass(frozen=True)
class RowMeasurement:
    """Measures the rows of a comparison, the untouched model first.

    Attributes:
        material: what rows are fitted on, with the untouched model and the settings.
        sets: the evaluated examples, by the name of their data.
        asked: what is asked freely.
        untouched: the untouched model's evaluations, by the name of their data, once it is
            measured.
        known: its free answers, where they are known already.
    """

    material: Material
    sets: Mapping[str, list[BinaryExample]]
    asked: FreeQuestions
    untouched: dict[str, Evaluation] = field(default_factory=dict)
    known: Sequence[Parametric] | None = None

    def read_untouched(self) -> None:
        """Read the untouched model's evaluations of the run that is resumed, if it has them.

        Raises:
            NasAlignError: that run has evaluated it on other examples.
        """
        for name, examples in self.sets.items():
            path = self.session.run.reusable(answers_path(name, UNTOUCHED.name))
            if path:
                with as_written(path.parent):
                    self.untouched[name] = Evaluation.from_rows(examples, read_jsonl(path), name)

    def row(self, rival: Rival) -> Measured:
        """Fit a rival and measure it.

        Raises:
            RuntimeError: the rival did not leave the model as it was.
            StorageError: what it leaves in the run directory cannot be written.
        """
        about = {name: getattr(rival, name) for name in ("name", "title", "serving", "logits")}
        answers: dict[str, list[dict[str, Any]]] = {}
        voice = self._voice  # computed here, before anything is fitted
        try:
            with explained(f"measuring the row {rival.name}", self.session.model):
                found, answers = self._measured(rival)
        except StorageError:  # the next row could not be written either
            raise
        except NothingToFixError as nothing:
            found = {"error": str(nothing), "nothing_to_fix": True}
        except NasAlignError as error:
            found = {"error": str(error), "nothing_to_fix": False}
        if not torch.equal(voice, self._says()):
            raise RuntimeError(f"the row {rival.name} did not put the model back")
        return Measured(about | found, answers)

    def _measured(self, rival: Rival) -> Measured:
        model = self.session.model
        own = replace(self.material, session=self.session.with_run(self._run_of(rival)))
        with measuring(model) as fitting:
            fitted = rival.fit(own)
        if own.run.folder and not any(own.run.folder.iterdir()):
            own.run.folder.rmdir()
        with timing(model) as evaluating, fitted.on(model):
            evaluations = {name: self._evaluated(rival, fitted, name) for name in self.sets}
        if rival.name == UNTOUCHED.name:
            self.untouched.update(evaluations)
        row = {
            "error": "",
            "datasets": {
                name: self._figures(name, rival, evaluation)
                for name, evaluation in evaluations.items()
            },
            "cost": _cost(fitting, evaluating),
            "parameters": fitted.parameters,
            "chosen": dict(fitted.chosen),
            "changes": dict(fitted.changes),
            "shots": len(fitted.shots),
            "side_effects": self._effects(fitted),
        }
        return Measured(row, {name: one.rows() for name, one in evaluations.items()})

    def _run_of(self, rival: Rival) -> Run:
        """A run of the rival's own, in an empty folder: what it takes is all that it takes."""
        run = self.session.run
        if not run.folder:
            return run.part(None)
        folder = run.folder / FOLDER / rival.name
        remove_folder(folder)
        make_subfolder(folder)
        return run.part(folder)

    def _evaluated(self, rival: Rival, fitted: Fitted, name: str) -> Evaluation:
        session, examples = self.session, self.sets[name]
        settings = session.settings.replace(fitted.changes)
        found = self.untouched.get(name) if self._says_the_same(fitted) else None
        if found is None:
            title = f"Evaluating {rival.name}: {name}"
            with session.run.part(None).stage(name, title, len(examples)) as done:
                found = run_evaluation(
                    session.model, session.tokenizer, examples, settings, fitted.shots, done
                )
        if fitted.adjusted:
            found = fitted.adjusted(found)
        if not found.scores.finite:
            raise NasAlignError(
                f"Fitted as {rival.name}, the model gives no probabilities on {name} any more: "
                "its fitting diverged."
            )
        return found

    def _says_the_same(self, fitted: Fitted) -> bool:
        """Whether the model is asked and answers as the untouched one, so need not be asked again.

        With the decoder ``generate`` it is asked: an earlier run's texts are not read back.
        """
        leaves = fitted.on is nullcontext and not fitted.changes and not fitted.shots
        return leaves and self.session.settings.decoder == "logits"

    def _figures(self, name: str, rival: Rival, evaluation: Evaluation) -> dict[str, Any]:
        """Each figure as value, low and high; the change of accuracy is paired by question."""
        settings = self.session.settings
        how = (settings.bootstrap_samples, settings.seed)
        metrics = evaluation.metrics(*how)
        figures: dict[str, Any] = {
            metric: [metrics[metric], *metrics["intervals"][metric]]
            for metric in METRICS
            if metric in metrics
        }
        figures |= {"auc": evaluation.auc(*how), "gap": or_none(evaluation.gap(*how))}
        if rival.name != UNTOUCHED.name:
            change = self.untouched[name].change_to(evaluation, *how)["accuracy"]
            figures["accuracy_change"] = change
        return {"n": metrics["n"], "figures": figures}

    def _effects(self, fitted: Fitted) -> dict[str, Any]:
        """Side effects; a row that leaves the model as it is has those of the untouched one."""
        if fitted.on is nullcontext:
            return self._none
        return effects_of(self._quiet, fitted.on, self.asked, self._known)

    @cached_property
    def _none(self) -> dict[str, Any]:
        """The untouched model beside itself."""
        texts = effects_of(self._quiet, nullcontext, FreeQuestions("", []), [])
        if not self.asked.questions:
            return texts
        share = sum(one.known for one in self._known) / len(self._known)
        general = {
            "n": len(self._known),
            "before": share,
            "after": share,
            "change_interval": [0.0, 0.0],
            "judge": self.session.settings.judge,
            "data": self.asked.data,
        }
        return texts | {"general_qa": general}

    def free_answers_known(self) -> "RowMeasurement":
        """Return this measurement with the untouched model's free answers."""
        return replace(self, known=self._known)

    @cached_property
    def _known(self) -> Sequence[Parametric]:
        """The untouched model's free answers."""
        return self.asked.answered(self._quiet, "before") if self.known is None else self.known

    @property
    def session(self) -> Session:
        """The untouched model, the settings and the run of the comparison."""
        return self.material.session

    @property
    def _quiet(self) -> Session:
        """The session with a run whose timings are not kept: there would be some for each row."""
        return self.session.with_run(self.session.run.part(None))

    @property
    def has_untouched(self) -> bool:
        """Whether the untouched model's answers are there, to measure changes against."""
        return self.untouched.keys() == self.sets.keys()

    @cached_property
    def _voice(self) -> Tensor:
        """What the untouched model says."""
        return self._says()

    @torch.no_grad()
    def _says(self) -> Tensor:
        """What the model says to a fixed text, [T, vocabulary]: its weights and hooks are in it."""
        model, text = self.session.model, neutral_texts()[0]
        ids = torch.tensor([self.session.tokenizer(text)["input_ids"]])
        device = model.get_input_embeddings().weight.device
        return model(input_ids=ids.to(device), use_cache=False).logits[0].cpu()


def answers_path(data: str, row: str) -> str:
    """Return the path of a row's answers to a data set, in the run directory."""
    return f"eval/{data}.{row}.jsonl"


def _cost(fitting: Cost, evaluating: Cost) -> dict[str, Any]:
    return {
        "seconds_to_fit": round(fitting.seconds, 3),
        "seconds_to_evaluate": round(evaluating.seconds, 3),
        "memory_to_fit": fitting.memory,
        "threads": torch.get_num_threads(),
    }
