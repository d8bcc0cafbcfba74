"""What an alignment changed beside yes/no answers, as a stage of ``align``."""

from collections.abc import Sequence
from typing import Any

from nasalign.alignment.adapter import Adapter
from nasalign.alignment.knowledge import judged
from nasalign.data.binary import sample
from nasalign.data.qa import Question, Record, split_of
from nasalign.data.splits import Splits, with_context
from nasalign.evaluation.side_effects import (
    accuracy_change,
    compare_neutral,
    free_answers_of_both,
    neutral_texts,
    rows_put_back,
)
from nasalign.files import read_json, write_json
from nasalign.jobs.examples import Bench

FILE = "side_effects.json"


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
        ``general_qa``: the share of right free answers to held-out questions (Table 5), None where
        there are none or the setting ``side_effect_questions`` is 0; ``kl`` and ``perplexity`` as
        of ``compare_neutral``.
    """
    run, settings = bench.run, bench.settings
    left = run.left(FILE)
    if left:
        return dict(read_json(left))
    data, questions = _held_out(bench, splits, records)
    answers = None
    if questions:
        answers = _general_qa(bench, adapter, questions) | {"data": data}
    with run.stage("side_effects/texts", "Neutral texts", len(neutral_texts())) as done:
        texts = compare_neutral(
            bench.model,
            bench.tokenizer,
            adapter,
            settings.bootstrap_samples,
            settings.seed,
            done,
        )
    found = {"general_qa": answers} | texts
    if run.folder:
        write_json(run.folder / FILE, found)
    run.reporter.say(_sentence(found))
    return found


def _held_out(
    bench: Bench, splits: Splits, records: Sequence[Record]
) -> tuple[str, list[Question]]:
    """Questions that were not probed, of the evaluated data or else of the probed, and whose."""
    settings, name = bench.settings, splits.name
    questions = [record for record in records if isinstance(record, Question)]
    if not questions:  # all of the data are yes/no questions
        name = splits.probing_name
        rest = [one for one in splits.probing_pool if split_of(one.subject) == "test"]
        briefly, _ = with_context(rest, settings.context)
        questions = [one for one in briefly if isinstance(one, Question)]
    chosen = sample(questions, settings.side_effect_questions, settings.seed)
    return name, [question for question in chosen if bench.fits(question)]


def _general_qa(bench: Bench, adapter: Adapter, questions: Sequence[Question]) -> dict[str, Any]:
    """Asks both models by Prompt II; a model that judges itself does so untouched."""
    model, tokenizer, settings, run = bench.model, bench.tokenizer, bench.settings, bench.run
    total = 2 * len(questions)
    with run.stage("side_effects/answers", "Free answers of both models", total) as done:
        both = free_answers_of_both(model, tokenizer, adapter, questions, settings, done)
    judge = run.chat(settings.judge, settings, model, tokenizer)
    with (
        rows_put_back(model, adapter),
        run.asking("side_effects/judging", "Judging free answers", total, judge) as done,
    ):
        adapter.revert(model)
        before, after = (judged(questions, answers, judge, done) for answers in both)
    return accuracy_change(before, after) | {"judge": settings.judge}


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
