"""What the model knows: free answers under Prompt II, judged and classified (Appendices E, G)."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from nasalign.data.binary import positive_example, sample
from nasalign.data.conversation import Chat
from nasalign.data.judge import includes, judge
from nasalign.data.non_answers import declines
from nasalign.data.records import BinaryExample, Question, Record
from nasalign.errors import DataError
from nasalign.inference.fitting import unfit_records
from nasalign.inference.generation import FIRST_LINE, Generated, TokenIds, generate
from nasalign.io.files import check_rows, read_jsonl, write_jsonl
from nasalign.progress import Progress
from nasalign.prompts.wordings import Vocabulary
from nasalign.session import Session

LABELLED = "labelled.jsonl"
"""The labelled rows that a run was tuned on."""
Knowledge = Literal["Det-T", "Det-F", "Non-Det", "unclear"]


@dataclass(frozen=True)
class Parametric:
    """A question with the model's free answer to it under Prompt II.

    Attributes:
        question: the question.
        prediction: the model's greedy answer.
        right: whether that is the answer; None where the judge said neither yes nor no.
        entropy: of the distribution of its first token, in nats.
        cut: whether the limit of tokens ended the answer.
        example: the labelled row that it is, which is asked as it stands; what the model knows of
            it was not asked.
    """

    question: Question
    prediction: str
    right: bool | None
    entropy: float = 0.0
    cut: bool = False
    example: BinaryExample | None = None

    @property
    def contains(self) -> bool:
        """Whether the answer stands in the prediction: the first check of Section 6.1."""
        return includes(self.prediction, self.question)

    @property
    def known(self) -> bool:
        """Whether the answer was judged right."""
        return self.right is True

    @property
    def knowledge(self) -> Knowledge:
        """Answered rightly (Det-T), wrongly (Det-F) or not at all (Non-Det), as in Appendix G."""
        if self.right:
            return "Det-T"
        if declines(self.prediction):
            return "Non-Det"
        return "unclear" if self.right is None else "Det-F"


def free_answers(
    session: Session,
    questions: Sequence[Question],
    progress: Progress | None = None,
    *,
    short: bool = True,
) -> Generated:
    """Ask each question by Prompt II and decode greedily.

    Args:
        session: the model and the settings.
        questions: with the context that is shown.
        progress: told of answers.
        short: whether an answer is one line of ``answer_tokens`` at most, for the probing set;
            otherwise it has ``free_answer_tokens`` at most, and any number of lines.

    Raises:
        DataError: there is no question.
    """
    if not questions:
        raise DataError("The probing set is empty: there is no short-answer question to ask.")
    builder, settings = session.builder(), session.settings
    return generate(
        session.model,
        session.tokenizer,
        [TokenIds(builder.parametric(question)) for question in questions],
        settings.answer_tokens if short else settings.free_answer_tokens,
        until=FIRST_LINE if short else None,
        batch_size=settings.batch_size,
        progress=progress,
    )


def judged(
    questions: Sequence[Question],
    answers: Generated,
    chat: Chat | None = None,
    progress: Progress | None = None,
    *,
    double_check: bool = False,
) -> list[Parametric]:
    """Judge free answers as ``data.judge.judge`` does: by a language model if there is one."""
    verdicts = judge(questions, answers.texts, chat, progress, double_check=double_check)
    return [
        Parametric(*parts)
        for parts in zip(
            questions, answers.texts, verdicts, answers.entropies, answers.cut, strict=True
        )
    ]


def ask_and_judge(
    session: Session, questions: Sequence[Question], *, short: bool = True
) -> list[Parametric]:
    """Ask questions by Prompt II and have the answers judged as the settings say.

    ``short`` is as for ``free_answers``: a short answer is judged by a language model alone
    (Appendix E), any other only where it includes the right answer (Section 6.1).
    """
    run, by = session.run, session.settings.judge
    judge = session.chat(by)
    with run.stage("parametric", "Asking what it knows", len(questions)) as done:
        answers = free_answers(session, questions, done, short=short)
    with session.asking("judging", "Judging its answers", len(questions), judge) as done:
        samples = judged(questions, answers, judge, done, double_check=not short)
    unclear = sum(one.right is None for one in samples)
    if unclear:
        run.say(
            f"Of {len(samples)} verdicts of {by}, {unclear} are neither yes nor no; they count as "
            "not known."
        )
    run.facts["judged"] = {"by": by, "answers": len(samples), "unclear": unclear}
    return samples


def what_it_knows(session: Session, records: Sequence[Record]) -> list[Parametric]:
    """Ask a sample of the probing questions by Prompt II; write ``parametric.jsonl``.

    Labelled rows have no short answer that could be asked for: they are taken as known, as they
    are, and written to ``labelled.jsonl``. Records whose prompts do not fit the model are left out
    and counted.
    """
    settings, run = session.settings, session.run
    drawn = sample(records, settings.probing_questions, settings.seed)
    rows = [one for one in drawn if isinstance(one, BinaryExample)]
    if rows:
        return _labelled(session, rows)
    asked = _fitting(session, [one for one in drawn if isinstance(one, Question)])

    def make() -> list[Parametric]:
        with session.untouched():
            return ask_and_judge(session, asked)

    samples = run.cached(
        "parametric.jsonl",
        make=make,
        dump=lambda path, found: write_jsonl(path, parametric_rows(found)),
        load=lambda path: parametric_from_rows(asked, read_jsonl(path)),
    )
    known = sum(item.known for item in samples)
    run.say(f"The model answers {known} of {len(asked)} questions correctly (Prompt II).")
    return samples


def _labelled(session: Session, rows: Sequence[BinaryExample]) -> list[Parametric]:
    """Labelled rows that fit the model as samples of a probing set."""
    builder, run = session.builder(), session.run
    unfit, dropped = unfit_records(
        session.model,
        rows,
        lambda place: len(builder.binary(rows[place]).token_ids),
        strict=run.strict,
    )
    run.drop(dropped, "labelled rows")
    kept = [one for place, one in enumerate(rows) if place not in unfit]
    if run.folder and run.writes:
        content = [
            {"question": one.question, "context": one.context, "label": one.label} for one in kept
        ]
        write_jsonl(run.folder / LABELLED, content)
    words, yes = builder.words, sum(one.known_label for one in kept)
    run.say(
        f"{yes} labelled rows have the answer {words.positive} and {len(kept) - yes} "
        f"{words.negative}. Whether the model knows the answers is not asked: that takes short "
        "answers (Prompt II)."
    )
    return [Parametric(_as_question(one, words), "", True, example=one) for one in kept]


def _as_question(row: BinaryExample, words: Vocabulary) -> Question:
    """A labelled row as a question, whose answer is a verdict."""
    return Question(
        row.question,
        words.positive if row.known_label else words.negative,
        row.context,
        subject=row.subject,
        fields=row.fields,
        where=row.where,
    )


def _fitting(session: Session, questions: Sequence[Question]) -> list[Question]:
    """Questions of which both prompts fit, with an answer; Prompt I may ask about a longer one."""
    builder, room = session.builder(), session.settings.answer_tokens

    def tokens_of(place: int) -> int:
        question = questions[place]
        binary = builder.binary(positive_example(question)).token_ids
        return max(len(builder.parametric(question)), len(binary)) + room

    strict = session.run.strict
    unfit, dropped = unfit_records(session.model, questions, tokens_of, strict=strict)
    session.run.drop(dropped, "probing")
    return [question for place, question in enumerate(questions) if place not in unfit]


def known_of(samples: Sequence[Parametric]) -> list[Parametric]:
    """Return the samples that the model answers correctly.

    Raises:
        DataError: there is none.
    """
    known = [one for one in samples if one.known]
    if not known:
        raise DataError(
            f"The model answers none of the {len(samples)} probing questions correctly, so "
            "there is no probing set; give it easier questions with --data."
        )
    return known


def parametric_rows(samples: Sequence[Parametric]) -> list[dict[str, Any]]:
    """Return a plain row for each question, for ``parametric.jsonl``."""
    return [
        {
            "id": one.question.id,
            "question": one.question.question,
            "answer": one.question.answer,
            "prediction": one.prediction,
            "right": one.right,
            "contains": one.contains,
            "knowledge": one.knowledge,
            "entropy": one.entropy,
            "confident": sure,
            "cut": one.cut,
        }
        for one, sure in zip(samples, confident(samples), strict=True)
    ]


def parametric_from_rows(
    questions: Sequence[Question], rows: Sequence[dict[str, Any]]
) -> list[Parametric]:
    """Return the samples that rows of ``parametric.jsonl`` describe.

    Raises:
        NasAlignError: the rows are of other questions.
    """
    asked = [{"question": one.question, "answer": one.answer} for one in questions]
    check_rows(rows, asked, "parametric.jsonl")
    return [
        Parametric(question, row["prediction"], row["right"], row["entropy"], row["cut"])
        for question, row in zip(questions, rows, strict=True)
    ]


def confident(samples: Sequence[Parametric]) -> list[bool]:
    """Whether each answer is confident: its entropy is at most the median of all (App. G)."""
    middle = median(one.entropy for one in samples)
    return [one.entropy <= middle for one in samples]
