"""What the tables and figures are computed from: one model, measured once and kept in a folder.

A model is scored once for each data set, wording and form. Whatever is asked for a second time, in
this run or a later one, is read back, and the model is loaded only if something is missing.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from nasalign.config import Settings
from nasalign.data.binary import sample
from nasalign.errors import DataError
from nasalign.evaluation.evaluation import Evaluation, run_evaluation
from nasalign.inference.attention_map import attention_map, readable_tokens
from nasalign.io.files import (
    read_json,
    read_jsonl,
    read_tensors,
    write_json,
    write_jsonl,
    write_tensors,
)
from nasalign.nasa.knowledge import ask_and_judge, parametric_from_rows, parametric_rows
from nasalign.reproduction.endpoint_model import endpoint_verdicts
from nasalign.reproduction.forms import UNTOUCHED, Forms
from nasalign.reproduction.model_store import ModelStore
from nasalign.reproduction.sampled import SHOTS, Sampled, SampledData

_NO_NAME = re.compile(r"[^\w.-]")
WORDINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "true-false": {"vocabulary": "true/false"},
    "correct-wrong": {"vocabulary": "correct/wrong"},
    "A": {"instruction": "A"},
    "B": {"instruction": "B"},
    "4-shot": {"shots": SHOTS},
}
"""What each wording changes of the settings (Tables 7, 10 and 11)."""


@dataclass
class Study:
    """One model, with all that was measured of it.

    Attributes:
        store: the model and its folder.
        data: what it is asked.
        forms: the model untouched and tuned.
    """

    store: ModelStore
    data: SampledData
    forms: Forms
    _metrics: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The model's name without its owner."""
        return self.store.name

    @property
    def settings(self) -> Settings:
        """The settings of the paper's wording."""
        return self.store.settings

    def close(self) -> None:
        """Free the model and the data; what was measured can still be read."""
        for part in (self.forms, self.data, self.store):
            part.close()

    def asked_of(self, name: str) -> Sampled:
        """Return what is asked of a data set."""
        return self.data.of(name)

    def notes_on_data(self, names: Sequence[str]) -> list[str]:
        """Return what stands in for which of some data sets."""
        return [self.store.sets[name].note for name in names if self.store.sets[name].note]

    def evaluation(self, name: str, form: str = UNTOUCHED, wording: str = "plain") -> Evaluation:
        """Return the answers to the examples of a data set; in the paper's wording with NAS."""
        examples = self.asked_of(name).examples
        file, nas_file = f"{name}.{wording}.jsonl", f"{name}.{wording}.safetensors"

        def make() -> Evaluation:
            title = f"{self.name}, {form}: {name}, {wording}"
            shots = self.data.shots(name) if "shots" in WORDINGS[wording] else []
            with self.forms.tuned(form) as session:
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
        found = self.store.run_in(form).cached(file, make, dump, load, also)
        return Evaluation.from_rows(examples, found.rows())

    def endpoint_evaluation(self, name: str, who: str) -> Evaluation:
        """Return the verdicts of a model such as ``openai:gpt-4`` on the same examples."""
        examples, model = self.asked_of(name).examples, who.removeprefix("openai:")

        def make() -> Evaluation:
            session, title = self.store.session, f"{model} answers {name}"
            chat = session.chat(who)
            assert chat, "an endpoint is named"
            with session.asking(f"{model}.{name}", title, len(examples), chat) as done:
                return endpoint_verdicts(chat, examples, done)

        return self.store.run_in("endpoints").cached(
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
        return read_tensors(self.store.folder / UNTOUCHED / f"{name}.plain.safetensors")["nas"]

    def knowledge(self, name: str, form: str = UNTOUCHED) -> list[dict[str, Any]]:
        """Return the answers to a data set's questions by Prompt II, judged (Appendices E, G)."""
        questions = self.asked_of(name).questions

        def make() -> list[dict[str, Any]]:
            with self.forms.tuned(form) as session:
                return parametric_rows(ask_and_judge(session, questions, short=False))

        def load(path: Path) -> list[dict[str, Any]]:
            return parametric_rows(parametric_from_rows(questions, read_jsonl(path)))

        return self.store.run_in(form).cached(f"{name}.free.jsonl", make, write_jsonl, load)

    def attention(self, name: str, form: str, heads: Sequence[tuple[int, int]]) -> dict[str, Any]:
        """Return the attention of heads to the answer words, on a data set's shortest question.

        Returns:
            ``tokens``, ``first_row``, and ``heads``: of each its ``layer``, ``head``, and per token
            from ``first_row`` on the attention to ``Yes`` and ``No``.
        """
        which = "+".join(f"{layer}.{head}" for layer, head in heads)
        run, file = self.store.run_in(form), f"{name}.attention.{which}.json"
        return run.cached(file, lambda: self._attention(name, form, heads), write_json, read_json)

    def _attention(self, name: str, form: str, heads: Sequence[tuple[int, int]]) -> dict[str, Any]:
        examples = self.asked_of(name).examples
        with self.forms.tuned(form) as session:
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
