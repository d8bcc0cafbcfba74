"""What a change of a model does beside yes/no answers, for ``align`` and for ``compare``."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from nasalign.adapters.adapter import Adapter, rows_put_back
from nasalign.data.binary import sample
from nasalign.data.records import Question, Record, split_of
from nasalign.data.splits import Splits, with_context
from nasalign.evaluation.examples import Bench
from nasalign.evaluation.side_effects import (
    Change,
    accuracy_change,
    change_of,
    compare_neutral,
    neutral_texts,
)
from nasalign.io.files import read_json, write_json
from nasalign.nasa.knowledge import Parametric, free_answers, judged

FILE = "side_effects.json"


@dataclass(frozen=True)
class FreeQuestions:
    """What both models are asked freely; none of it was probed.

    Attributes:
        data: whose they are.
        questions: those that fit the model; none with the setting ``side_effect_questions`` at 0.
    """

    data: str
    questions: list[Question]

    @classmethod
    def held_out(cls, bench: Bench, splits: Splits, records: Sequence[Record]) -> "FreeQuestions":
        """Takes questions of the evaluated data, or of the probed where it has none.

        Args:
            bench: the model and the settings.
            splits: the data of the run.
            records: the evaluated ones, with their context.
        """
        settings, name = bench.settings, splits.name
        questions = [record for record in records if isinstance(record, Question)]
        if not questions:  # all of the data are yes/no questions
            name = splits.probing_name
            rest = [one for one in splits.probing_pool if split_of(one.subject) == "test"]
            briefly, _ = with_context(rest, settings.context)
            questions = [one for one in briefly if isinstance(one, Question)]
        chosen = sample(questions, settings.side_effect_questions, settings.seed)
        return cls(name, [question for question in chosen if bench.fits(question)])

    def answered(self, bench: Bench, side: str, on: Change = nullcontext) -> list[Parametric]:
        """Asks by Prompt II and judges; a model that judges itself does so untouched.

        Args:
            bench: with the untouched model.
            side: ``before`` or ``after``.
            on: what is changed while it answers.
        """
        if not self.questions:
            return []
        model, tokenizer, settings, run = bench.model, bench.tokenizer, bench.settings, bench.run
        stage, total = f"side_effects/{side}", len(self.questions)
        with run.stage(stage, f"Free answers {side}", total) as done, on(model):
            answers = free_answers(model, tokenizer, self.questions, settings, done)
        judge = run.chat(settings.judge, settings, model, tokenizer)
        with run.asking(f"{stage}/judging", "Judging free answers", total, judge) as done:
            return judged(self.questions, answers, judge, done)


def side_effects(
    bench: Bench, adapter: Adapter, splits: Splits, records: Sequence[Record]
) -> dict[str, Any]:
    """Compares the aligned model with the untouched one; writes ``side_effects.json``.

    Args:
        bench: with the aligned model, which is left as it was.
        adapter: the change.
        splits: the data of the run.
        records: the evaluated ones, with their context.

    Returns:
        As of ``effects_of``.
    """
    run = bench.run
    left = run.left(FILE)
    if left:
        return dict(read_json(left))
    asked = FreeQuestions.held_out(bench, splits, records)
    with rows_put_back(bench.model, adapter):
        adapter.revert(bench.model)
        before = asked.answered(bench, "before")
        found = effects_of(bench, change_of(adapter), asked, before)
    if run.folder:
        write_json(run.folder / FILE, found)
        run.seal(FILE)
    run.reporter.say(_sentence(found))
    return found


def effects_of(
    bench: Bench, on: Change, asked: FreeQuestions, before: Sequence[Parametric]
) -> dict[str, Any]:
    """Compares a changed model with the untouched one.

    Args:
        bench: with the untouched model, which is left so.
        on: the change.
        asked: questions to be answered freely.
        before: the untouched model's answers to them.

    Returns:
        ``general_qa``: the share of right free answers (Table 5), None where nothing is asked;
        ``kl`` and ``perplexity`` as of ``compare_neutral``.
    """
    settings, general = bench.settings, None
    if asked.questions:
        after = asked.answered(bench, "after", on)
        general = accuracy_change(before, after) | {"judge": settings.judge, "data": asked.data}
    with bench.run.stage("side_effects/texts", "Neutral texts", len(neutral_texts())) as done:
        texts = compare_neutral(
            bench.model, bench.tokenizer, on, settings.bootstrap_samples, settings.seed, done
        )
    return {"general_qa": general} | texts


def _sentence(found: dict[str, Any]) -> str:
    kl, perplexity, answers = found["kl"], found["perplexity"], found["general_qa"]
    free = ""
    if answers:
        low, high = answers["change_interval"]
        free = (
            f"free answers right {answers['before']:.1%} before, {answers['after']:.1%} after, of "
            f"{answers['n']} of {answers['data']} (change, 95 %: {low:+.1%} to {high:+.1%}); "
        )
    return (
        f"Side effects: {free}on {kl['prompts']} neutral texts, KL divergence {kl['mean']:.4f} "
        f"nats a token, the same likeliest token at {kl['same_top_token']:.1%}, perplexity "
        f"{perplexity['before']:.2f} before, {perplexity['after']:.2f} after."
    )
