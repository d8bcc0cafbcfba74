"""What is asked of the paper's data sets: drawn once, and kept."""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from nasalign.data.records import BinaryExample, Question
from nasalign.data.sources import Loaded
from nasalign.data.splits import Splits
from nasalign.errors import DataError
from nasalign.evaluation.examples import make_examples
from nasalign.evaluation.prompt_fit import as_question
from nasalign.evaluation.run_data import RunData
from nasalign.evaluation.shots import few_shots
from nasalign.io.files import read_json, write_json
from nasalign.reproduction.model_store import ModelStore
from nasalign.reproduction.paper_sets import DOMAINS, PROBING

SHOTS = 4
"""Examples shown in Table 7."""


@dataclass(frozen=True)
class Sampled:
    """What is asked of a data set.

    Attributes:
        questions: the sampled questions, as Prompt II asks them.
        examples: their yes/no examples.
        origins: of each example, the index of its question.
        tasks: what the examples ask, such as ``answers to verify``.
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
        lists = ("aliases", "options", "fields")  # JSON has no tuples
        questions = [
            Question(**(one | {name: tuple(one.get(name, ())) for name in lists}))
            for one in values["questions"]
        ]
        examples = [BinaryExample(**(one | {"fields": ()})) for one in values["examples"]]
        return cls(questions, examples, values["origins"], values["tasks"], values["dropped"])


@dataclass
class SampledData:
    """The questions of the paper's data sets for one model.

    Attributes:
        store: the model.
        data: reads the data sets.
    """

    store: ModelStore
    data: RunData
    _loaded: dict[str, Loaded] = field(default_factory=dict)
    _sampled: dict[str, Sampled] = field(default_factory=dict)
    _shots: dict[str, list[BinaryExample]] = field(default_factory=dict)

    def close(self) -> None:
        """Free what was read; it is read again where it is needed."""
        self._loaded.clear()
        self._sampled.clear()

    def read(self, data: str) -> Loaded:
        """Return a data set, which is read once."""
        if data not in self._loaded:
            self._loaded[data] = self.data.read(data)
        return self._loaded[data]

    def splits(self, name: str) -> Splits:
        """Return what is evaluated of a data set, and what is probed."""
        data, probing = (self.read(self.store.sets[one].data) for one in (name, PROBING))
        settings = self.store.settings
        splits = Splits.of(data, probing, settings.split)
        # The examples of Table 7 are left out of every table, so that all are over the same.
        if name in DOMAINS:
            with suppress(DataError):  # of too few questions, which ``shots`` refuses
                splits = splits.holding_out(SHOTS, settings.seed)
        return splits

    def shots(self, name: str) -> list[BinaryExample]:
        """Return the examples that are shown before each question of a data set (Table 7)."""
        if name not in self._shots:
            session = self.store.session.with_settings(shots=SHOTS)
            splits = self.splits(name)
            splits = splits if splits.shown else splits.holding_out(SHOTS, self.store.settings.seed)
            self._shots[name] = few_shots(session, splits)
        return self._shots[name]

    def of(self, name: str) -> Sampled:
        """Return what is asked of a data set; it is drawn once."""

        def make() -> Sampled:
            splits = self.splits(name)
            self.store.session.run.drop(splits.left_out, name)
            records, binary = make_examples(self.store.session, name, splits.test, splits.pool)
            questions = [as_question(record) for record in records]
            unused = (
                self.read(self.store.sets[name].data).dropped,
                splits.left_out,
                binary.dropped,
            )
            dropped = sum((Counter(part.counts) for part in unused), Counter())
            tasks = ", ".join(binary.tasks)
            return Sampled(questions, binary.examples, binary.origins, tasks, dict(dropped))

        if name not in self._sampled:
            self._sampled[name] = self.store.run_in("examples").cached(
                f"{name}.json",
                make,
                dump=lambda path, found: write_json(path, asdict(found)),
                load=lambda path: Sampled.from_dict(read_json(path)),
            )
        return self._sampled[name]
