"""What the tables and figures are computed from: one model, measured once and kept in a folder.

A model is scored once for each data set, wording and form. Whatever is asked for a second time, in
this run or a later one, is read back, and the model is loaded only if something is missing. The
forms are the untouched model, the model tuned as in the paper, and the ablations of Tables 19 and
20; each is tuned once.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from accelerate.utils.memory import clear_device_cache
from torch import Tensor

from nasalign.adapters.adapter import Adapter, load_adapter
from nasalign.alignment import tune_rows
from nasalign.config import Settings
from nasalign.data.binary import sample
from nasalign.data.records import BinaryExample, Question
from nasalign.data.sources import Loaded, digest_of
from nasalign.data.splits import Splits
from nasalign.errors import DataError, NothingToFixError
from nasalign.evaluation.evaluation import Evaluation, run_evaluation
from nasalign.evaluation.examples import as_question, make_examples, without_evidence
from nasalign.evaluation.run_data import RunData
from nasalign.evaluation.shots import few_shots
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
from nasalign.nasa.knowledge import (
    ask_and_judge,
    parametric_from_rows,
    parametric_rows,
)
from nasalign.nasa.probing import ProbingSet, check_probing_set, probe
from nasalign.reproduction.endpoint_model import endpoint_verdicts
from nasalign.reproduction.paper_sets import DOMAINS, PROBING, PaperSet
from nasalign.rivals.baselines import random_heads
from nasalign.run import Run, versions
from nasalign.run_file import check_same, read_run
from nasalign.session import Session

FACTS = "study.json"
_NO_NAME = re.compile(r"[^\w.-]")
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


@dataclass(frozen=True)
class Sampled:
    """What is asked of a data set.

    Attributes:
        questions: the sampled questions, as Prompt II asks them.
        examples: their yes/no examples.
        origins: of each example, the index of its question.
        tasks: what the examples ask, such as ``verification of an answer``.
        dropped: rows and questions that could not be used, by reason.
    """

    questions: list[Question]
    examples: list[BinaryExample]
    origins: list[int]
    tasks: str
    dropped: dict[str, int]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Sampled":
        """Return what ``dataclasses.asdict`` has written."""
        lists = ("aliases", "options")  # JSON has no tuples
        questions = [
            Question(**(one | {name: tuple(one[name]) for name in lists}))
            for one in values["questions"]
        ]
        examples = [BinaryExample(**one) for one in values["examples"]]
        return cls(questions, examples, values["origins"], values["tasks"], values["dropped"])


@dataclass
class Study:
    """One model, with all that was measured of it.

    Attributes:
        name: the model's name without its owner.
        open: loads the model; called when something has to be measured.
        data: reads the data sets.
        sets: the paper's data sets.
        folder: where the adapters and the measurements of this model are kept.
        changes: settings that the user has given by name.
        asked: the model, its weights' files, how it is loaded, and the settings that were given;
            where all are those of the measurements, these are read without loading the model.
    """

    name: str
    open: Callable[[], Session]
    data: RunData
    sets: Mapping[str, PaperSet]
    folder: Path
    changes: Mapping[str, Any]
    asked: Mapping[str, Any]
    _session: Session | None = None
    _loaded: dict[str, Loaded] = field(default_factory=dict)
    _adapters: dict[str, Adapter | None] = field(default_factory=dict)
    _asked: dict[str, Sampled] = field(default_factory=dict)
    _shots: dict[str, list[BinaryExample]] = field(default_factory=dict)
    _metrics: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)

    @property
    def session(self) -> Session:
        """The untouched model; measurements of another one, or with other settings, are refused."""
        if self._session is None:
            session = self.open()
            path = self.folder / FACTS
            facts = session.run.facts | self._expected()
            if path.exists():
                check_same(self.folder, read_run(self.folder, FACTS), facts)
            if processes.is_first():
                make_subfolder(self.folder)
                write_json(path, facts)
            processes.agreed(None)  # until it is written
            self._session = session
        return self._session

    def close(self) -> None:
        """Free the model and the data; what was measured can still be read."""
        self._session = None
        self.__dict__.pop("probing", None)
        self._adapters.clear()
        self._loaded.clear()
        self._asked.clear()
        clear_device_cache(garbage_collection=True)

    def _expected(self) -> dict[str, Any]:
        """What ``study.json`` says beside the facts of a run."""
        return {
            "data": {name: one.data for name, one in self.sets.items()},
            "digests": {one.data: digest_of(one.files) for one in self.sets.values()},
            "asked": dict(self.asked),
            "versions": versions(),
        }

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """The content of ``study.json``; the model is loaded if that is of something else."""
        known = self.measured and all(
            value == read_run(self.folder, FACTS).get(name)
            for name, value in self._expected().items()
        )
        if not processes.agreed(known):
            _ = self.session
        return read_run(self.folder, FACTS)

    @cached_property
    def settings(self) -> Settings:
        """The settings of the paper's wording."""
        return Settings().replace(self.facts["settings"])

    @property
    def measured(self) -> bool:
        """Whether anything of the model is stored."""
        return (self.folder / FACTS).exists()

    @property
    def summary(self) -> str:
        """The model, where it ran, and the settings and versions of the measurements."""
        settings, model = self.settings, self.facts["model"]
        packages = ", ".join(f"{name} {number}" for name, number in self.facts["versions"].items())
        changed = ", ".join(f"{key} = {value}" for key, value in sorted(self.changes.items()))
        return (
            f"{model['architecture']}, {model['parameters'] / 1e6:.0f} million parameters, "
            f"{model['dtype']} on {model['device']}, fingerprint {model['fingerprint'][:12]}; "
            f"{settings.evaluation_questions} questions a set at most, seed {settings.seed}; "
            f"set: {changed or 'nothing'}; {packages}."
        )

    def _run_in(self, part: str) -> Run:
        """A run in a folder of the study; files that are there are reused."""
        _ = self.facts  # refused before anything is reused
        make_subfolder(self.folder / part)
        reporter, first = self.data.run.reporter, processes.is_first()
        return Run(self.folder / part, reporter=reporter, resuming=True, writes=first)

    def _session_in(self, part: str) -> Session:
        """The session with a run in a folder of the study."""
        return self.session.with_run(self._run_in(part))

    # Data

    def read(self, data: str) -> Loaded:
        """Return a data set, which is read once."""
        if data not in self._loaded:
            self._loaded[data] = self.data.read(data)
        return self._loaded[data]

    def splits(self, name: str) -> Splits:
        """Return what is evaluated of a data set, and what is probed."""
        chosen, probing = self.sets[name], self.sets[PROBING]
        splits = Splits.of(self.read(chosen.data), self.read(probing.data), self.settings.split)
        # The examples of Table 7 are left out of every table, so that all are over the same.
        with suppress(DataError):  # of too few questions, which ``shots`` refuses
            splits = splits.holding_out(4, self.settings.seed) if name in DOMAINS else splits
        return splits

    def shots(self, name: str) -> list[BinaryExample]:
        """Return the examples that are shown before each question of a data set (Table 7)."""
        if name not in self._shots:
            session = self.session.with_settings(**WORDINGS["4-shot"])
            splits = self.splits(name)
            splits = splits if splits.shown else splits.holding_out(4, self.settings.seed)
            self._shots[name] = few_shots(session, splits)
        return self._shots[name]

    def asked_of(self, name: str) -> Sampled:
        """Return what is asked of a data set; it is drawn once."""

        def make() -> Sampled:
            splits = self.splits(name)
            self.session.run.drop(splits.left_out, name)
            records, binary = make_examples(self.session, name, splits.test, splits.pool)
            questions = [as_question(record) for record in records]
            unused = (self.read(self.sets[name].data).dropped, splits.left_out, binary.dropped)
            dropped = sum((Counter(part.counts) for part in unused), Counter())
            tasks = ", ".join(binary.tasks)
            return Sampled(questions, binary.examples, binary.origins, tasks, dict(dropped))

        if name not in self._asked:
            self._asked[name] = self._run_in("examples").cached(
                f"{name}.json",
                make,
                dump=lambda path, found: write_json(path, asdict(found)),
                load=lambda path: Sampled.from_dict(read_json(path)),
            )
        return self._asked[name]

    # Forms of the model

    @cached_property
    def probing(self) -> ProbingSet:
        """The probing set (Section 4.1)."""
        session = self._session_in("probing").with_settings(direction="negative")  # the paper's
        return probe(session, without_evidence(self.splits(PROBING).probing))

    def heads(self, form: str = NASA) -> list[Head]:
        """Return the heads that a form tunes, of falling single head NAS."""

        def make() -> list[Head]:
            selected = choose_heads(self.session.with_run(Run()), self.probing)
            if form not in RANDOM:
                return selected
            return random_heads(self.probing, len(selected), f"{self.settings.seed}/{form}")

        return self._run_in(form).cached(
            "heads.json", make, write_json, lambda path: [Head(*head) for head in read_json(path)]
        )

    def tuning(self, form: str) -> dict[str, Any]:
        """Return the heads of a form, the kept ones, its changed weights, and why none is kept."""
        run = self._run_in(form)
        return run.cached("tuned.json", lambda: self._tune(form), write_json, read_json)

    def adapter(self, form: str) -> Adapter | None:
        """Return the rows that a form changes; None if it changes none."""
        self.tuning(form)
        if form not in self._adapters:  # tuned by an earlier command
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
        if processes.count() > 1:  # a checkpoint would take the first one ahead of the others
            session = session.with_run(Run(reporter=session.run.reporter))
        history, adapter = tune_rows(session, self.probing, heads)
        adapter.revert(session.model)
        self._adapters[form] = adapter if adapter.after else None
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
        examples = self.asked_of(name).examples
        file, nas_file = f"{name}.{wording}.jsonl", f"{name}.{wording}.safetensors"

        def make() -> Evaluation:
            title = f"{self.name}, {form}: {name}, {wording}"
            shots = self.shots(name) if "shots" in WORDINGS[wording] else []
            with self.tuned(form) as session:
                own = session.with_settings(**WORDINGS[wording])
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
        found = self._run_in(form).cached(file, make, dump, load, also)
        return Evaluation.from_rows(examples, found.rows())

    def endpoint_evaluation(self, name: str, who: str) -> Evaluation:
        """Return the verdicts of a model such as ``openai:gpt-4`` on the same examples."""
        examples, model = self.asked_of(name).examples, who.removeprefix("openai:")

        def make() -> Evaluation:
            session, title = self.session, f"{model} answers {name}"
            chat = session.chat(who)
            assert chat, "an endpoint is named"
            with session.asking(f"{model}.{name}", title, len(examples), chat) as done:
                return endpoint_verdicts(chat, examples, done)

        return self._run_in("endpoints").cached(
            f"{_NO_NAME.sub('_', model)}.{name}.jsonl",
            make,
            dump=lambda path, found: write_jsonl(path, found.rows()),
            load=lambda path: Evaluation.from_rows(examples, read_jsonl(path), name),
        )

    def metrics(self, name: str, form: str = UNTOUCHED, wording: str = "plain") -> dict[str, Any]:
        """Return the metrics of an evaluation with their intervals."""
        key = (name, form, wording)
        if key not in self._metrics:
            settings, found = self.settings, self.evaluation(*key)
            self._metrics[key] = found.metrics(settings.bootstrap_samples, settings.seed)
        return self._metrics[key]

    def rows(self, name: str, form: str = UNTOUCHED) -> list[dict[str, Any]]:
        """Return the rows of the paper's wording, marked with what the untouched model knows."""
        origins, known = self.asked_of(name).origins, self.knowledge(name)
        return [
            row | {key: known[origin][key] for key in ("knowledge", "confident", "right")}
            for row, origin in zip(self.evaluation(name, form).rows(), origins, strict=True)
        ]

    def study_sample(self, name: str) -> list[int]:
        """Return the indices of the examples of a domain that Tables 1, 2 and 9 are made from."""
        size = min(self.settings.study_questions, self.settings.evaluation_questions)
        return sample(range(len(self.asked_of(name).examples)), size, self.settings.seed)

    def nas(self, name: str) -> Tensor:
        """Return the NAS of the untouched model on a data set, [N, L, H]."""
        self.evaluation(name)
        return read_tensors(self.folder / UNTOUCHED / f"{name}.plain.safetensors")["nas"]

    def knowledge(self, name: str, form: str = UNTOUCHED) -> list[dict[str, Any]]:
        """Return the answers to a data set's questions by Prompt II, judged (Appendices E, G)."""
        questions = self.asked_of(name).questions

        def make() -> list[dict[str, Any]]:
            with self.tuned(form) as session:
                return parametric_rows(ask_and_judge(session, questions, short=False))

        def load(path: Path) -> list[dict[str, Any]]:
            return parametric_rows(parametric_from_rows(questions, read_jsonl(path)))

        return self._run_in(form).cached(f"{name}.free.jsonl", make, write_jsonl, load)

    def attention(self, name: str, form: str, heads: Sequence[tuple[int, int]]) -> dict[str, Any]:
        """Return the attention of heads to the answer words, on a data set's shortest question.

        Returns:
            ``tokens``, ``first_row``, and ``heads``: of each its ``layer``, ``head``, and per token
            from ``first_row`` on the attention to ``Yes`` and ``No``.
        """
        which = "+".join(f"{layer}.{head}" for layer, head in heads)
        run, file = self._run_in(form), f"{name}.attention.{which}.json"
        return run.cached(file, lambda: self._attention(name, form, heads), write_json, read_json)

    def _attention(self, name: str, form: str, heads: Sequence[tuple[int, int]]) -> dict[str, Any]:
        examples = self.asked_of(name).examples
        with self.tuned(form) as session:
            builder = session.builder()
            prompts = [builder.binary(example) for example in examples if example.label]
            if not prompts:
                raise DataError(f"{name} has no question whose right answer is Yes; take more.")
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
