"""What the tables and figures are computed from, measured once and kept in a folder.

A model is scored once for each data set, wording and side. Whatever is asked for a second time, in
this run or a later one, is read back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from nasalign.commands.evaluate import as_question
from nasalign.config import Settings
from nasalign.data.binary import Binary
from nasalign.data.records import Record
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
from nasalign.io.storage import seal, whole
from nasalign.nasa.knowledge import parametric_rows
from nasalign.nasa.stages import ask_what_it_knows
from nasalign.prompts.builder import PromptBuilder
from nasalign.reproduction.paper_sets import PROBING
from nasalign.reproduction.sides import UNTOUCHED, Sides
from nasalign.run import Run

WORDINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "true-false": {"vocabulary": "true/false"},
    "correct-wrong": {"vocabulary": "correct/wrong"},
    "A": {"instruction": "A"},
    "B": {"instruction": "B"},
    "4-shot": {"shots": 4},
}
"""What each wording changes of the settings (Tables 7, 10 and 11)."""

_NAS = ".safetensors"


@dataclass
class Study:
    """One model, with all that was measured of it.

    Attributes:
        sides: the model in its forms.
    """

    sides: Sides
    _examples: dict[str, tuple[list[Record], Binary]] = field(default_factory=dict)
    _metrics: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The model's name without its owner."""
        return self.sides.name

    @property
    def settings(self) -> Settings:
        """The settings of the paper's wording."""
        return self.sides.settings

    def evaluation(self, name: str, side: str = UNTOUCHED, wording: str = "plain") -> Evaluation:
        """Returns the answers to the examples of a data set; rows of ``eval`` and their NAS."""
        path = self.sides.folder / side / f"{name}.{wording}.jsonl"
        _, binary = self.examples(name)
        if self._whole(path) and (wording != "plain" or self._whole(path.with_suffix(_NAS))):
            return Evaluation.from_rows(binary.examples, read_jsonl(path), name)
        settings = self.settings.replace(WORDINGS[wording])
        title = f"{self.sides.name}, {side}: {name}, {wording}"
        with self.sides.tuned(side) as (model, tokenizer):
            bench = replace(self.sides.bench, settings=settings)
            shots = bench.shots(self.sides.splits(PROBING)) if settings.shots else []
            with self.sides.job.run.stage(title, title, len(binary.examples)) as done:
                found = run_evaluation(model, tokenizer, binary.examples, settings, shots, done)
        if wording == "plain":
            write_tensors(path.with_suffix(_NAS), {"nas": found.scores.nas})
            seal(path.with_suffix(_NAS))
        write_jsonl(path, found.rows())
        seal(path)
        return Evaluation.from_rows(binary.examples, found.rows())

    def metrics(self, name: str, side: str = UNTOUCHED, wording: str = "plain") -> dict[str, Any]:
        """Returns the metrics of an evaluation with their intervals."""
        key = (name, side, wording)
        if key not in self._metrics:
            settings, found = self.settings, self.evaluation(*key)
            self._metrics[key] = found.metrics(settings.bootstrap_samples, settings.seed)
        return self._metrics[key]

    def rows(self, name: str, side: str = UNTOUCHED) -> list[dict[str, Any]]:
        """Returns the rows of the paper's wording, marked with what the untouched model knows."""
        _, binary = self.examples(name)
        known = self.knowledge(name)
        return [
            row | {key: known[origin][key] for key in ("knowledge", "confident", "right")}
            for row, origin in zip(self.evaluation(name, side).rows(), binary.origins, strict=True)
        ]

    def nas(self, name: str) -> Tensor:
        """Returns the NAS of the untouched model on a data set, [N, L, H]."""
        self.evaluation(name)
        return read_tensors(self.sides.folder / UNTOUCHED / f"{name}.plain.safetensors")["nas"]

    def knowledge(self, name: str, side: str = UNTOUCHED) -> list[dict[str, Any]]:
        """Returns the answers to a data set's questions by Prompt II, judged (Appendices E, G)."""
        path = self.sides.folder / side / f"{name}.free.jsonl"
        if not self._whole(path):
            questions = [as_question(record) for record in self.examples(name)[0]]
            with self.sides.tuned(side) as (model, tokenizer):
                run = Run(self.sides.job.run.reporter)
                samples = ask_what_it_knows(model, tokenizer, questions, self.settings, run)
            write_jsonl(path, parametric_rows(samples))
            seal(path)
        return read_jsonl(path)

    def attention(self, name: str, side: str, heads: Sequence[tuple[int, int]]) -> dict[str, Any]:
        """Returns the attention of heads to the answer words, on a data set's shortest question.

        Returns:
            ``tokens``, ``first_row``, and ``heads``: of each its ``layer``, ``head``, and per token
            from ``first_row`` on the attention to ``Yes`` and ``No``.
        """
        which = "+".join(f"{layer}.{head}" for layer, head in heads)
        path = self.sides.folder / side / f"{name}.attention.{which}.json"
        if not self._whole(path):
            write_json(path, self._attention(name, side, heads))
            seal(path)
        return dict(read_json(path))

    def examples(self, name: str) -> tuple[list[Record], Binary]:
        """Returns the records of a data set that are asked about, and their yes/no examples."""
        if name not in self._examples:
            splits = self.sides.splits(name)
            self.sides.job.run.drop(splits.left_out, name)
            self._examples[name] = self.sides.bench.examples(name, splits.test, splits.pool)
        return self._examples[name]

    def _whole(self, path: Path) -> bool:
        return whole(path, self.sides.job.run.reporter.say)

    def _attention(self, name: str, side: str, heads: Sequence[tuple[int, int]]) -> dict[str, Any]:
        settings, examples = self.settings, self.examples(name)[1].examples
        with self.sides.tuned(side) as (model, tokenizer):
            builder = PromptBuilder.of(tokenizer, settings)
            prompts = [builder.binary(example) for example in examples if example.label]
            prompt = min(prompts, key=lambda prompt: len(prompt.token_ids))
            maps = attention_map(model, [prompt], heads)[0]
        return {
            "tokens": readable_tokens(tokenizer, prompt.token_ids),
            "first_row": prompt.first_row,
            "heads": [
                {"layer": one.layer, "head": one.head, "nas": one.nas}
                | {"Yes": one.positive.tolist(), "No": one.negative.tolist()}
                for one in maps
            ],
        }


Studies = Sequence[Study]
