"""Side effects of a change of a model: free answers and neutral texts, before and after."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from nasalign.adapters.adapter import Adapter, rows_put_back
from nasalign.data.binary import sample
from nasalign.data.reading import Dropped
from nasalign.data.records import Question, Record, load_facts, place_name, split_of
from nasalign.data.splits import Splits, with_context
from nasalign.evaluation.prompt_fit import fits
from nasalign.evaluation.side_effects import (
    Change,
    accuracy_change,
    compare_neutral,
    neutral_texts,
)
from nasalign.io.files import read_json, write_json
from nasalign.nasa.knowledge import Parametric, free_answers, judged
from nasalign.session import Session

FILE = "side_effects.json"


@dataclass(frozen=True)
class FreeQuestions:
    """Questions that both models are asked freely; none of them was probed.

    Attributes:
        data: name of the data that they are from.
        questions: those that fit the model; none with the setting ``side_effect_questions`` at 0.
    """

    data: str
    questions: list[Question]

    @classmethod
    def held_out(
        cls, session: Session, splits: Splits, records: Sequence[Record]
    ) -> "FreeQuestions":
        """Take questions of the evaluated data, or else of the probed data, or else facts.

        ``records`` are the evaluated ones, with their context.
        """
        settings, name = session.settings, splits.name
        questions = [record for record in records if isinstance(record, Question)]
        if not questions:  # all of the data are yes/no questions
            name, pool = splits.probing_name, splits.probing_pool
            if not pool:  # and so are the probed ones
                name, pool = "facts", load_facts()
            rest = [one for one in pool if split_of(one.subject) == "test"]
            briefly, _ = with_context(rest, settings.context)
            questions = [one for one in briefly if isinstance(one, Question)]
        chosen = sample(questions, settings.side_effect_questions, settings.seed)
        kept, left_out = [], Dropped()
        for question in chosen:
            if fits(session, question):
                kept.append(question)
            else:
                left_out.add("its prompt does not fit the model", place_name(question))
        session.run.drop(left_out, f"{name} (free answers)")
        return cls(name, kept)

    def answered(self, session: Session, side: str, on: Change = nullcontext) -> list[Parametric]:
        """Ask by Prompt II under a change of the untouched model, and judge the answers.

        A model that judges itself does so untouched.
        """
        if not self.questions:
            return []
        stage, total = f"side_effects/{side}", len(self.questions)
        reused = session.untouched() if side == "before" else nullcontext()
        asking = session.run.stage(stage, f"Free answers {side}", total)
        with reused, asking as done, on(session.model):
            answers = free_answers(session, self.questions, done)
        judge = session.chat(session.settings.judge)
        title = "Judging free answers"
        with session.asking(f"{stage}/judging", title, total, judge) as done:
            return judged(self.questions, answers, judge, done)


def side_effects(
    session: Session, adapter: Adapter, splits: Splits, records: Sequence[Record]
) -> dict[str, Any]:
    """Compare the aligned model with the untouched one; write ``side_effects.json``.

    Args:
        session: with the aligned model, which is left as it was.
        adapter: the change.
        splits: the data of the run.
        records: the evaluated ones, with their context.

    Returns:
        As ``effects_of``.
    """

    def make() -> dict[str, Any]:
        asked = FreeQuestions.held_out(session, splits, records)
        with rows_put_back(session.model, adapter):
            adapter.revert(session.model)
            before = asked.answered(session, "before")
            found = effects_of(session, adapter.on, asked, before)
        session.run.say(_sentence(found))
        return found

    return session.run.cached(FILE, make, write_json, read_json)


def effects_of(
    session: Session, on: Change, asked: FreeQuestions, before: Sequence[Parametric]
) -> dict[str, Any]:
    """Compare a changed model with the untouched one.

    Args:
        session: with the untouched model, which is left so.
        on: the change.
        asked: questions to be answered freely.
        before: the untouched model's answers to them.

    Returns:
        ``general_qa``: the share of right free answers (Table 5), None where nothing is asked;
        ``kl`` and ``perplexity`` as of ``compare_neutral``.
    """
    settings, general = session.settings, None
    if asked.questions:
        after = asked.answered(session, "after", on)
        general = accuracy_change(before, after) | {"judge": settings.judge, "data": asked.data}
    with session.run.stage("side_effects/texts", "Neutral texts", len(neutral_texts())) as done:
        texts = compare_neutral(
            session.model, session.tokenizer, on, settings.bootstrap_samples, settings.seed, done
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
