"""What the tables and figures are computed from: one model, measured once and kept in a folder.

A model is scored once for each data set, wording and form. Whatever is asked for a second time, in
this run or a later one, is read back. The forms are the untouched model, the model tuned as in the
paper, and the ablations of Tables 19 and 20; each is tuned once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from nasalign.adapters.adapter import Adapter, load_adapter
from nasalign.alignment import tune_rows
from nasalign.config import Settings
from nasalign.data.binary import Binary
from nasalign.data.records import Record
from nasalign.data.sources import Loaded, digest_of
from nasalign.data.splits import Splits
from nasalign.errors import NothingToFixError
from nasalign.evaluation.evaluation import Evaluation, run_evaluation
from nasalign.evaluation.examples import as_question, few_shots, make_examples, without_evidence
from nasalign.evaluation.run_data import RunData
from nasalign.inference.attention_map import attention_map, readable_tokens
from nasalign.io.files import (
    read_json,
    read_jsonl,
    read_tensors,
    write_json,
    write_jsonl,
    write_tensors,
)
from nasalign.io.storage import make_subfolder, remove_folder
from nasalign.models import processes
from nasalign.nas.heads import Head
from nasalign.nasa.algorithm import HeadRecord
from nasalign.nasa.head_tuning import choose_heads
from nasalign.nasa.knowledge import ask_and_judge, parametric_rows
from nasalign.nasa.probing import ProbingSet, check_probing_set, probe
from nasalign.reproduction.paper_sets import PROBING, PaperSet
from nasalign.rivals.baselines import random_heads
from nasalign.run import Run
from nasalign.run_file import check_same, read_run
from nasalign.session import Session

UNTOUCHED, NASA, QUERY_ONLY = "untouched", "nasa", "query-only"
RANDOM = ("random-0", "random-1", "random-2")
"""Forms: the model, the paper's method, and its ablations of Tables 19 and 20."""

WORDINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "true-false": {"vocabulary": "true/false"},
    "correct-wrong": {"vocabulary": "correct/wrong"},
    "A": {"instruction": "A"},
    "B": {"instruction": "B"},
    "4-shot": {"shots": 4},
}
"""What each wording changes of the settings (Tables 7, 10 and 11)."""


@dataclass
class Study:
    """One model, with all that was measured of it.

    Attributes:
        name: the model's name without its owner.
        open: loads the model; called once, when something has to be measured.
        data: reads the data sets.
        sets: the paper's data sets.
        folder: where the adapters and the measurements of this model are kept.
        changes: settings that the user has given by name.
    """

    name: str
    open: Callable[[], Session]
    data: RunData
    sets: Mapping[str, PaperSet]
    folder: Path
    changes: Mapping[str, Any]
    _loaded: dict[str, Loaded] = field(default_factory=dict)
    _adapters: dict[str, Adapter | None] = field(default_factory=dict)
    _examples: dict[str, tuple[list[Record], Binary]] = field(default_factory=dict)
    _metrics: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)

    @cached_property
    def session(self) -> Session:
        """The untouched model; measurements of another one, or with other settings, are refused."""
        session = self.open()
        path = self.folder / "study.json"
        facts = session.run.facts | {"data": {name: one.data for name, one in self.sets.items()}}
        facts["digests"] = {one.data: digest_of(one.files) for one in self.sets.values()}
        if path.exists():
            check_same(self.folder, read_run(self.folder, path.name), facts)
        if processes.is_first():
            make_subfolder(self.folder)
            write_json(path, facts)
        return session

    @property
    def settings(self) -> Settings:
        """The settings of the paper's wording."""
        return self.session.settings

    @property
    def summary(self) -> str:
        """The model, where it ran, and the settings and versions of the measurements."""
        session, settings = self.session, self.settings
        facts, packages = session.run.facts["model"], session.run.facts["versions"]
        versions = ", ".join(f"{name} {number}" for name, number in packages.items())
        changed = ", ".join(f"{key} = {value}" for key, value in sorted(self.changes.items()))
        return (
            f"{type(session.model).__name__}, {facts['parameters'] / 1e6:.0f} million parameters, "
            f"{facts['dtype']} on {facts['device']}, fingerprint {facts['fingerprint'][:12]}; "
            f"{settings.evaluation_questions} questions a set at most, seed {settings.seed}; "
            f"set: {changed or 'nothing'}; {versions}."
        )

    def _session_in(self, part: str) -> Session:
        """The session with a run in a folder of the study; files that are there are reused."""
        folder = self.folder / part
        make_subfolder(folder)
        run = Run(folder, reporter=self.session.run.reporter, resuming=True)
        return self.session.with_run(run)

    # Data

    def read(self, data: str) -> Loaded:
        """Return a data set, which is read once."""
        if data not in self._loaded:
            self._loaded[data] = self.data.read(data)
        return self._loaded[data]

    def splits(self, name: str) -> Splits:
        """Return what is evaluated of a data set, and what is probed."""
        chosen, probing = self.sets[name], self.sets[PROBING]
        return Splits.of(self.read(chosen.data), self.read(probing.data), self.settings.split)

    def examples(self, name: str) -> tuple[list[Record], Binary]:
        """Return the records of a data set that are asked about, and their yes/no examples."""
        if name not in self._examples:
            splits = self.splits(name)
            self.session.run.drop(splits.left_out, name)
            self._examples[name] = make_examples(self.session, name, splits.test, splits.pool)
        return self._examples[name]

    # Forms of the model

    @cached_property
    def probing(self) -> ProbingSet:
        """The probing set (Section 4.1)."""
        session = self._session_in("probing").with_settings(direction="negative")  # the paper's
        return probe(session, without_evidence(self.splits(PROBING).probing))

    def heads(self, form: str = NASA) -> list[Head]:
        """Return the heads that a form tunes, of falling single head NAS."""
        selected = choose_heads(self.session.with_run(Run()), self.probing)
        if form not in RANDOM:
            return selected
        return random_heads(self.probing, len(selected), f"{self.settings.seed}/{form}")

    def tuning(self, form: str) -> dict[str, Any]:
        """Return the heads of a form, the kept ones, its changed weights, and why none is kept."""
        session = self._session_in(form)
        return session.run.cached("tuned.json", lambda: self._tune(form), write_json, read_json)

    def adapter(self, form: str) -> Adapter | None:
        """Return the rows that a form changes; None if it changes none."""
        if form not in self._adapters:
            self.tuning(form)
            saved = self.folder / form / "adapter"
            found = load_adapter(saved, self.session.model) if saved.is_dir() else None
            self._adapters[form] = found
        return self._adapters[form]

    def _tune(self, form: str) -> dict[str, Any]:
        """Run Algorithm 1 for a form, write its adapter, and leave the model as it was."""
        scope = {"k_scope": "none"} if form == QUERY_ONLY else {}
        session, heads = self._session_in(form).with_settings(**scope), self.heads(form)
        places = [head[:2] for head in heads]
        try:
            check_probing_set(self.probing)
        except NothingToFixError as nothing:
            return {"heads": places, "kept": [], "why": str(nothing)}
        session.run.say(f"{self.name}: tuning for {form}.")
        if processes.count() > 1:  # which have no checkpoint in common
            session = session.with_run(session.run.part(None))
        history, adapter = tune_rows(session, self.probing, heads)
        adapter.revert(session.model)
        if adapter.after and processes.is_first():
            adapter.save(self.folder / form / "adapter", session.model.name_or_path)
        kept = [one for one in history if isinstance(one, HeadRecord) and one.kept]
        if processes.is_first():
            remove_folder(self.folder / form / "checkpoint")
        return {
            "heads": places,
            "kept": [(one.layer, one.head) for one in kept],
            "parameters": adapter.parameters,
            "why": "" if kept else "every update was cancelled",
        }

    @contextmanager
    def tuned(self, form: str) -> Iterator[Session]:
        """Yield the model in a form, with a run in the folder of the form; put the model back."""
        adapter = None if form == UNTOUCHED else self.adapter(form)
        session = self._session_in(form)
        try:
            if adapter:
                adapter.apply(session.model)
            yield session
        finally:
            if adapter:
                adapter.revert(session.model)

    # Measurements

    def evaluation(self, name: str, form: str = UNTOUCHED, wording: str = "plain") -> Evaluation:
        """Return the answers to the examples of a data set; in the paper's wording with NAS."""
        examples = self.examples(name)[1].examples
        file, nas_file = f"{name}.{wording}.jsonl", f"{name}.{wording}.safetensors"

        def make() -> Evaluation:
            title = f"{self.name}, {form}: {name}, {wording}"
            with self.tuned(form) as session:
                own = session.with_settings(**WORDINGS[wording])
                shots = few_shots(own, self.splits(PROBING)) if own.settings.shots else []
                with session.run.stage(title, title, len(examples)) as done:
                    return run_evaluation(
                        own.model, own.tokenizer, examples, own.settings, shots, done
                    )

        def dump(path: Path, found: Evaluation) -> None:
            if wording == "plain":
                write_tensors(path.with_name(nas_file), {"nas": found.scores.nas})
            write_jsonl(path, found.rows())

        def load(path: Path) -> Evaluation:
            return Evaluation.from_rows(examples, read_jsonl(path), name)

        also = (nas_file,) if wording == "plain" else ()
        found = self._session_in(form).run.cached(file, make, dump, load, also)
        return Evaluation.from_rows(examples, found.rows())

    def metrics(self, name: str, form: str = UNTOUCHED, wording: str = "plain") -> dict[str, Any]:
        """Return the metrics of an evaluation with their intervals."""
        key = (name, form, wording)
        if key not in self._metrics:
            settings, found = self.settings, self.evaluation(*key)
            self._metrics[key] = found.metrics(settings.bootstrap_samples, settings.seed)
        return self._metrics[key]

    def rows(self, name: str, form: str = UNTOUCHED) -> list[dict[str, Any]]:
        """Return the rows of the paper's wording, marked with what the untouched model knows."""
        _, binary = self.examples(name)
        known = self.knowledge(name)
        return [
            row | {key: known[origin][key] for key in ("knowledge", "confident", "right")}
            for row, origin in zip(self.evaluation(name, form).rows(), binary.origins, strict=True)
        ]

    def nas(self, name: str) -> Tensor:
        """Return the NAS of the untouched model on a data set, [N, L, H]."""
        self.evaluation(name)
        return read_tensors(self.folder / UNTOUCHED / f"{name}.plain.safetensors")["nas"]

    def knowledge(self, name: str, form: str = UNTOUCHED) -> list[dict[str, Any]]:
        """Return the answers to a data set's questions by Prompt II, judged (Appendices E, G)."""

        def make() -> list[dict[str, Any]]:
            questions = [as_question(record) for record in self.examples(name)[0]]
            with self.tuned(form) as session:
                return parametric_rows(ask_and_judge(session, questions))

        run = self._session_in(form).run
        return run.cached(f"{name}.free.jsonl", make, write_jsonl, read_jsonl)

    def attention(self, name: str, form: str, heads: Sequence[tuple[int, int]]) -> dict[str, Any]:
        """Return the attention of heads to the answer words, on a data set's shortest question.

        Returns:
            ``tokens``, ``first_row``, and ``heads``: of each its ``layer``, ``head``, and per token
            from ``first_row`` on the attention to ``Yes`` and ``No``.
        """
        which = "+".join(f"{layer}.{head}" for layer, head in heads)
        run, file = self._session_in(form).run, f"{name}.attention.{which}.json"
        return run.cached(file, lambda: self._attention(name, form, heads), write_json, read_json)

    def _attention(self, name: str, form: str, heads: Sequence[tuple[int, int]]) -> dict[str, Any]:
        examples = self.examples(name)[1].examples
        with self.tuned(form) as session:
            builder = session.builder()
            prompts = [builder.binary(example) for example in examples if example.label]
            prompt = min(prompts, key=lambda prompt: len(prompt.token_ids))
            maps = attention_map(session.model, [prompt], heads)[0]
        return {
            "tokens": readable_tokens(session.tokenizer, prompt.token_ids),
            "first_row": prompt.first_row,
            "heads": [
                {"layer": one.layer, "head": one.head, "nas": one.nas}
                | {"Yes": one.positive.tolist(), "No": one.negative.tolist()}
                for one in maps
            ],
        }


Studies = Sequence[Study]
