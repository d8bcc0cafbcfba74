"""From the records of a data set to yes/no examples for one model, and their evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nasalign.config import Settings
from nasalign.data.binary import Binary, positive_example, sample, to_binary
from nasalign.data.prompts import PromptBuilder
from nasalign.data.qa import BinaryExample, Question, Record
from nasalign.data.splits import Splits, with_context
from nasalign.errors import DataError
from nasalign.evaluation.evaluate import Evaluation, run_evaluation
from nasalign.files import read_jsonl, write_jsonl
from nasalign.models.loading import context_length
from nasalign.nas.scoring import VERDICT_TOKENS
from nasalign.run import Run


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

        Raises:
            DataError: no example is left.
        """
        settings, run = self.settings, self.run
        chosen = sample(records, settings.evaluation_questions, settings.seed)
        chosen, mode = with_context(chosen, settings.context, self._fits)
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

    def shots(self, splits: Splits) -> list[BinaryExample]:
        """Returns the few-shot examples, of the probed questions, right and wrong in turn."""
        settings = self.settings
        chosen = sample(splits.probing, -(-settings.shots // 2), settings.seed)
        chosen, _ = with_context(chosen, settings.context)
        examples = to_binary(chosen, settings.seed, splits.probing_pool).examples
        return examples[: settings.shots]

    def evaluate(
        self,
        sets: Mapping[str, list[BinaryExample]],
        shots: Sequence[BinaryExample],
        side: str,
    ) -> dict[str, Evaluation]:
        """Evaluates on each set; writes ``eval/NAME.SIDE.jsonl``."""
        evaluations = {}
        for name, examples in sets.items():
            title = f"Evaluating {side}: {name}"
            left = self.run.left(f"eval/{name}.{side}.jsonl")
            if left:
                evaluations[name] = Evaluation.from_rows(examples, read_jsonl(left))
                continue
            with self.run.stage(f"{side}/{name}", title, len(examples)) as done:
                evaluations[name] = run_evaluation(
                    self.model, self.tokenizer, examples, self.settings, shots, done
                )
            if self.run.folder:
                (self.run.folder / "eval").mkdir(exist_ok=True)
                path = self.run.folder / "eval" / f"{name}.{side}.jsonl"
                write_jsonl(path, evaluations[name].rows())
        return evaluations

    def _fits(self, question: Question) -> bool:
        """Says whether both prompts of a question, with their answers, fit the model's context."""
        limit = context_length(self.model)
        if limit is None:
            return True
        settings = self.settings
        builder = PromptBuilder(
            self.tokenizer, settings.vocabulary, settings.instruction, settings.chat
        )
        binary = len(builder.binary(positive_example(question)).token_ids) + VERDICT_TOKENS
        free = len(builder.parametric(question)) + settings.answer_tokens
        return max(binary, free) <= limit


def without_evidence(questions: Sequence[Question]) -> list[Question]:
    """Returns questions as they are probed: where the data marks evidence, it is not shown.

    The probing set is what the model knows without any context (Appendix E). A context without a
    marked part, such as the passage of AR-LSAT, is part of the question and stays.
    """
    return [replace(one, context=None) if one.brief else one for one in questions]
