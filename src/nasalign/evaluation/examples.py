"""From the records of a data set to yes/no examples for one model, and their evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.config import Scenario, Settings
from nasalign.data.binary import Binary, positive_example, sample, to_binary
from nasalign.data.records import BinaryExample, Question, Record
from nasalign.data.splits import Splits, with_context
from nasalign.errors import DataError, ModelError, NasAlignError
from nasalign.evaluation.evaluation import Evaluation, run_evaluation
from nasalign.inference.scoring import VERDICT_TOKENS
from nasalign.io.files import read_jsonl, write_jsonl
from nasalign.io.storage import make_subfolder, seal
from nasalign.models.loading import context_length
from nasalign.prompts.builder import PromptBuilder
from nasalign.prompts.scenarios import evidence_of, in_scenario
from nasalign.run import Run
from nasalign.run_file import as_written


@dataclass(frozen=True)
class Bench:
    """A model with everything that examples are made and evaluated with."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    settings: Settings
    run: Run

    def examples(
        self, name: str, records: Sequence[Record], pool: Sequence[Question]
    ) -> tuple[list[Record], Binary]:
        """Returns the records that are evaluated, with their context, and their examples.

        The examples are plain; ``in_scenario`` makes those of the settings' scenario.

        Raises:
            DataError: no example is left.
        """
        settings, run = self.settings, self.run
        chosen = sample(records, settings.evaluation_questions, settings.seed)
        chosen, mode = with_context(chosen, settings.context, self.fits)
        if mode != settings.context and any(getattr(one, "brief", None) for one in chosen):
            run.reporter.say(f"{name}: {mode} of the context is given.")
        generator = run.chat(settings.generator, settings, self.model, self.tokenizer)
        with run.asking(f"examples/{name}", "Writing questions", len(chosen), generator) as done:
            binary = to_binary(
                chosen,
                settings.seed,
                pool,
                sides=settings.sides,
                generator=generator,
                progress=done,
            )
        run.drop(binary.dropped, name)
        run.facts.setdefault("examples", {})[name] = {
            "context": mode,
            "generator": settings.generator,
            "sides": settings.sides,
            "n": len(binary.examples),
        }
        if not binary.examples:
            raise DataError(f"{name} leaves no test question; give more rows.")
        return chosen, binary

    def asking(self, scenario: Scenario) -> "Bench":
        """Returns the same with another scenario."""
        return replace(self, settings=replace(self.settings, scenario=scenario))

    def in_scenario(
        self, name: str, records: Sequence[Record], binary: Binary
    ) -> list[BinaryExample]:
        """Returns examples as the settings' scenario asks them.

        Args:
            name: of the data.
            records: as ``examples`` was given them, with all of their context.
            binary: what it made of them.

        Raises:
            DataError: the data does not allow the scenario.
        """
        settings = self.settings
        drawn = sample(records, settings.evaluation_questions, settings.seed)
        evidence = [evidence_of(drawn[origin]) for origin in binary.origins]
        examples = in_scenario(binary.examples, settings.scenario, evidence, name)
        if settings.scenario == "context" and examples == binary.examples:
            self.run.reporter.say(
                f"{name}: the context is given in every scenario already; with context=none, it is "
                "given in the scenario context alone."
            )
        return examples

    def check(self, example: BinaryExample, shots: Sequence[BinaryExample]) -> None:
        """Makes the prompt of an example, so that what is wrong shows before anything is asked.

        Raises:
            PromptError: the tokenizer, the settings or the examples shown do not fit.
        """
        self._builder(shots).binary(example)

    def shots(self, splits: Splits) -> list[BinaryExample]:
        """Returns the few-shot examples, of the probed questions, right and wrong in turn."""
        settings = self.settings
        chosen = sample(splits.probing, -(-settings.shots // 2), settings.seed)
        gives = settings.scenario == "context" and settings.context == "none"
        chosen, _ = with_context(chosen, "supporting" if gives else settings.context)
        examples = to_binary(chosen, settings.seed, splits.probing_pool).examples[: settings.shots]
        return in_scenario(examples, "negated") if settings.scenario == "negated" else examples

    def evaluate(
        self,
        sets: Mapping[str, list[BinaryExample]],
        shots: Sequence[BinaryExample],
        side: str,
        marks: Sequence[dict[str, Any]] | None = None,
    ) -> dict[str, Evaluation]:
        """Evaluates on each set; writes ``eval/NAME.SIDE.jsonl``.

        Args:
            sets: examples by the name of their data.
            shots: examples that are shown before each question.
            side: ``before`` or ``after``.
            marks: what else is written of each example of a set, if there is anything.
        """
        evaluations = {}
        for name, examples in sets.items():
            title = f"Evaluating {side}: {name}"
            left = self.run.left(f"eval/{name}.{side}.jsonl")
            if left:
                with as_written(left.parent):
                    rows = read_jsonl(left)
                    evaluations[name] = Evaluation.from_rows(examples, rows, name)
                continue
            with self.run.stage(f"{side}/{name}", title, len(examples)) as done:
                evaluations[name] = run_evaluation(
                    self.model, self.tokenizer, examples, self.settings, shots, done
                )
            self._check_finite(name, evaluations[name])
            if self.run.folder:
                make_subfolder(self.run.folder / "eval")
                path = self.run.folder / "eval" / f"{name}.{side}.jsonl"
                rows = evaluations[name].rows()
                more = marks or [{}] * len(rows)
                write_jsonl(path, (row | mark for row, mark in zip(rows, more, strict=True)))
                seal(path)
        return evaluations

    def _check_finite(self, name: str, found: Evaluation) -> None:
        """Refuses figures of a model whose numbers exceed its dtype: NaN compares as No."""
        said = torch.stack([found.scores.p_positive, found.scores.p_negative])
        if not said.isfinite().all():
            wider = "bfloat16 or float32" if self.model.dtype == torch.float16 else "float32"
            raise ModelError(
                f"The model gives no probabilities on {name} (they are NaN), so its numbers exceed "
                f"{str(self.model.dtype).removeprefix('torch.')}; try --dtype {wider}."
            )

    def fits(self, question: Question) -> bool:
        """Says whether both prompts of a question, with their answers, fit the model's context."""
        limit = context_length(self.model)
        if limit is None:
            return True
        settings, builder = self.settings, self._builder()
        answer = settings.reasoning_tokens if settings.scenario == "cot" else VERDICT_TOKENS
        example = positive_example(question)
        if settings.scenario == "negated":
            [example] = in_scenario([example], "negated")
        binary = len(builder.binary(example).token_ids) + answer
        free = len(builder.parametric(question)) + settings.answer_tokens
        return max(binary, free) <= limit

    def _builder(self, shots: Sequence[BinaryExample] = ()) -> PromptBuilder:
        return PromptBuilder.of(self.tokenizer, self.settings, shots, self.settings.scenario)


def settled(
    settings: Settings, changes: Mapping[str, Any], scenarios: Sequence[Scenario], run: Run
) -> Settings:
    """Returns settings with a decoder that serves all scenarios, and says if it is another.

    Args:
        settings: of a preset or a file, with the changes.
        changes: what the user has set by name.
        scenarios: in which examples will be asked.
        run: told of a change.

    Raises:
        NasAlignError: the user asked for a decoder that cannot serve.
    """
    if "cot" not in scenarios or settings.decoder == "generate":
        return settings
    if "decoder" in changes:
        raise NasAlignError(
            "A chain of thought has to be written out before it ends in an answer: for the "
            "scenario cot, leave out the decoder logits or take generate."
        )
    run.reporter.say("The scenario cot takes the decoder generate, so every scenario does.")
    chosen = replace(settings, decoder="generate")
    run.facts["settings"] = chosen.as_dict()
    return chosen


def without_evidence(questions: Sequence[Question]) -> list[Question]:
    """Returns questions as they are probed: where the data marks evidence, it is not shown.

    The probing set is what the model knows without any context (Appendix E). A context without a
    marked part, such as the passage of AR-LSAT, is part of the question and stays.
    """
    return [replace(one, context=None) if one.brief else one for one in questions]
